"""Overlong filtering and the soft punishment through the real trainer."""

import pytest
import torch

from tests.tiny import dapo_trainer, logged, odd_length, trl_trainer


def truncated(ids) -> bool:
    """By the host's criterion: a sampled padding token (0) at the limit counts as an end, like EOS (1)."""
    return ids[-1] not in (0, 1)


class Recorded:
    """A reward that is high for truncated completions, so that leaving them in a group's mean is seen at once."""

    __name__ = "recorded"

    def __init__(self):
        self.completions = []

    def __call__(self, completion_ids, **kwargs):
        self.completions += completion_ids
        return [100.0 if truncated(ids) else float(len(ids)) for ids in completion_ids]


@pytest.mark.parametrize("dynamic_sampling", [False, True])
def test_filtered_completions_leave_loss_denominator_and_group_statistics(tmp_path, dynamic_sampling):
    reward = Recorded()
    trainer = dapo_trainer(
        tmp_path,
        reward,
        max_steps=1,
        gradient_accumulation_steps=2,
        max_completion_length=16,
        mask_truncated_completions=True,
        dynamic_sampling=dynamic_sampling,
        soft_overlong_cache=0,
    )
    batches = []
    generate = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda inputs: batches.append(generate(inputs)) or batches[-1]
    trainer.train()
    (batch,) = batches
    rows = [ids[: mask.sum()].tolist() if mask.any() else None for ids, mask in _rows(batch)]
    assert None in rows  # some were truncated
    for start in range(0, 16, 4):
        group = [row for row in rows[start : start + 4] if row is not None]
        advantages = [a for a, row in zip(batch["advantages"][start : start + 4], rows[start:], strict=False) if row]
        rewards = torch.tensor([float(len(row)) for row in group])
        if len(group) > 1:
            expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
            torch.testing.assert_close(torch.stack(advantages), expected, rtol=1e-4, atol=1e-4)
    tokens = sum(len(row) for row in rows if row is not None)
    assert [int(part["num_items_in_batch"]) for part in trainer._buffered_inputs] == [tokens] * 2
    # The curve covers the filtered completions too: it is the policy's
    everything = torch.tensor([100.0 if truncated(ids) else float(len(ids)) for ids in reward.completions])
    assert logged(trainer, "reward") == [pytest.approx(everything.mean().item())]


def _rows(batch):
    live = batch["completion_mask"] * batch.get("tool_mask", 1)
    return zip(batch["completion_ids"], live, strict=True)


def test_trl_lets_truncated_rewards_into_the_statistics(tmp_path):
    """The difference the test above is about; when TRL changes it, our override can go."""
    trainer = trl_trainer(tmp_path, Recorded(), max_steps=1, max_completion_length=16, mask_truncated_completions=True)
    batches = []
    generate = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda inputs: batches.append(generate(inputs)) or batches[-1]
    trainer.train()
    live = batches[0]["completion_mask"].any(dim=1).view(-1, 4)
    means = (batches[0]["advantages"].view(-1, 4) * live).sum(1) / live.sum(1)
    assert (means.abs() > 0.1).any()


def test_filtered_completions_do_not_decide(tmp_path):
    """Rewards differ only between truncated and ended completions; filtered, every group is dead."""

    def truncation_reward(completion_ids, **kwargs):
        return [float(truncated(ids)) for ids in completion_ids]

    plain = dapo_trainer(tmp_path / "plain", truncation_reward, max_completion_length=16, max_steps=2)
    plain.train()
    assert plain.state.global_step == 2
    filtered = dapo_trainer(
        tmp_path / "filtered",
        truncation_reward,
        max_completion_length=16,
        mask_truncated_completions=True,
        generation_budget=2.0,
    )
    filtered.train()
    assert filtered.state.global_step == 0


def test_the_punishment_is_equation_13_with_its_own_curve(tmp_path):
    lengths = []

    def recording(completion_ids, **kwargs):
        lengths.extend(len(ids) for ids in completion_ids)
        return odd_length(completion_ids)

    trainer = dapo_trainer(
        tmp_path, recording, max_steps=2, max_completion_length=16, soft_overlong_cache=4, soft_overlong_weight=0.5
    )
    trainer.train()
    # Lmax 16, Lc 4: nothing up to 12 tokens, then a quarter more for every token
    expected = [0.0 if length <= 12 else (12 - length) / 4 for length in lengths]
    assert logged(trainer, "rewards/soft_overlong_punishment_reward/mean") == [
        pytest.approx(sum(expected) / len(expected))
    ]
    task = [float(length % 2) for length in lengths]
    total = [reward + 0.5 * punishment for reward, punishment in zip(task, expected, strict=True)]
    assert logged(trainer, "reward") == [pytest.approx(sum(total) / len(total))]
    assert logged(trainer, "dynamic_sampling/reward_all") == [pytest.approx(sum(task) / len(task))]


def test_the_callers_reward_list_is_left_alone(tmp_path):
    rewards = [odd_length]
    dapo_trainer(tmp_path, rewards)
    assert rewards == [odd_length]
