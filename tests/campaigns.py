"""Benchmarks at the smallest size: runs in this process, from an untrained policy, with a reward it can meet."""

import dataclasses
import json

import pytest

from benchmarks.harness import method_runs, tables
from benchmarks.harness.counted_reward import CountedReward
from benchmarks.harness.methods import Method
from benchmarks.harness.tables import Campaign
from tests.tiny import policy_dir


class OddLengths(CountedReward):
    """Rewards completions of odd length, which a policy that has learnt nothing has as often as not."""

    def __call__(self, completions, completion_ids, answer, **kwargs):
        super().__call__(completions=completions, completion_ids=completion_ids, answer=answer)
        rewards = [float(len(ids) % 2) for ids in completion_ids]
        groups = [rewards[i : i + self.num_generations] for i in range(0, len(rewards), self.num_generations)]
        self.informative += sum(len(set(group)) > 1 for group in groups)
        return rewards


def run_here(specs, work, store, warm_starts, jobs, deadline=None):
    """[`~benchmarks.harness.stored_runs.run_all`] without processes, store and warm starts."""
    records = ({"spec": dataclasses.asdict(spec), **work(spec, policy_dir().name)} for spec in specs)
    return [json.loads(json.dumps(record)) for record in records]


@pytest.fixture
def small(monkeypatch):
    """Makes updates of 8 completions, and everything else of this module take place."""
    settings_in = Method.settings_in
    monkeypatch.setattr(tables, "run_all", run_here)
    monkeypatch.setattr(method_runs, "CountedReward", OddLengths)
    monkeypatch.setattr(
        Method, "settings_in", lambda self, world: settings_in(self, world) | {"per_device_train_batch_size": 8}
    )


def campaign(tmp_path, seeds: int = 1) -> Campaign:
    return Campaign(str(tmp_path / "result.json"), seeds, 1, str(tmp_path))
