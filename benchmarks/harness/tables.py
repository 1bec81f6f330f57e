"""A table of methods: trials where settings are to be chosen, then the reported runs of every row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.harness.method_runs import START, MethodSpec
from benchmarks.harness.methods import Method
from benchmarks.harness.run_spec import RunSpec
from benchmarks.harness.stored_runs import run_all
from benchmarks.harness.trials import TUNING_SEED, choose, combinations, trial_accuracies, wider_rates
from benchmarks.harness.worlds import PLAYGROUND, WORLDS


@dataclass(frozen=True)
class Preset:
    """
    How large a table is.

    Attributes:
        methods (`tuple[str, ...]`):
            Its rows, in their order.
        starts (`tuple[int, ...]`):
            Seeds of the warm starts.
        rates (`tuple[float, ...]`):
            Learning rates tried for every row; a single combination of rate and knob takes no trial. A grid of three
            or four is widened for all rows while one of them chooses an edge of it.
        steps (`int`), evaluate_every (`int`):
            Optimizer updates of a run, and how many lie between two points of its curve.
        held_out (`int`), curve_prompts (`int`):
            Prompts of the final evaluation (of the trials' too), and how many of them the curve is measured on.
        samples (`int`):
            Completions per prompt on the curve; twice as many at the end.
        knobs (`int`):
            How many values of the row's own hyper-parameter are tried with each learning rate.
        world (`str`):
            A key of `WORLDS`.
        token_budget (`int`, *optional*):
            Generated tokens at which rows are compared: every run is measured in full when it has generated so many,
            a trial ends there. `None` where rows are compared at equal updates alone.
    """

    methods: tuple[str, ...]
    starts: tuple[int, ...]
    rates: tuple[float, ...]
    steps: int
    evaluate_every: int
    held_out: int
    curve_prompts: int
    samples: int
    knobs: int = 1
    world: str = PLAYGROUND.name
    token_budget: int | None = None


@dataclass(frozen=True)
class Campaign:
    """Where and how the runs of a benchmark are carried out, see [`~benchmarks.harness.stored_runs.run_all`]."""

    out: str
    seeds: int
    jobs: int
    warm_starts: str
    deadline: float | None = None

    def carry_out(self, specs: Sequence[RunSpec], work: Callable) -> list[dict[str, Any]]:
        store = Path(self.out).with_suffix(".runs")
        return run_all(specs, work, store, Path(self.warm_starts), self.jobs, self.deadline)


def trial_specs(methods: Mapping[str, Method], preset: Preset) -> list[MethodSpec]:
    """The trials, on the tuning split, measured where they end alone; none where there is nothing to choose."""
    specs = []
    for name in preset.methods:
        tried = combinations(methods[name], preset.rates, preset.knobs)
        for settings in tried if len(tried) > 1 else []:
            specs.append(
                MethodSpec(
                    name,
                    preset.starts[0],
                    TUNING_SEED,
                    preset.steps,
                    evaluate_every=preset.steps,
                    changes={**methods[name].settings_in(WORLDS[preset.world]), **settings},
                    held_out=preset.held_out,
                    curve_prompts=min(64, preset.held_out),
                    samples=1,
                    split="tuning",
                    world=preset.world,
                    token_budget=preset.token_budget,
                    tried=settings,
                )
            )
    return specs


def default_settings(methods: Mapping[str, Method], preset: Preset) -> dict[str, dict[str, float]]:
    """The first combination of each row."""
    return {name: combinations(methods[name], preset.rates, preset.knobs)[0] for name in preset.methods}


def _sizes(preset: Preset) -> dict[str, Any]:
    names = ("evaluate_every", "held_out", "curve_prompts", "samples", "world", "token_budget")
    return {name: getattr(preset, name) for name in names}


def seed_of(preset: Preset, repeat: int, start: int) -> int:
    """A seed that no other run of the row has, and that stays the same when more runs are asked for."""
    return repeat * len(preset.starts) + preset.starts.index(start)


def start_specs(preset: Preset) -> list[MethodSpec]:
    """The warm starts themselves, each with the seed of the first run that begins there."""
    return [MethodSpec(START, start, seed_of(preset, 0, start), 0, **_sizes(preset)) for start in preset.starts]


def reported_specs(
    methods: Mapping[str, Method], preset: Preset, chosen: Mapping[str, Mapping[str, float]], seeds: int
) -> list[MethodSpec]:
    """The reported runs with the chosen settings, `seeds` of every row from each warm start, one after the other."""
    return [
        MethodSpec(
            name,
            start,
            seed_of(preset, repeat, start),
            preset.steps,
            changes={**methods[name].settings_in(WORLDS[preset.world]), **chosen[name]},
            tried=chosen[name],
            **_sizes(preset),
        )
        for repeat in range(seeds)
        for start in preset.starts
        for name in preset.methods
    ]


@dataclass(frozen=True)
class TableRuns:
    """What a table is made of: its trials, its records, each row's configuration, and how large it is."""

    trials: list[dict[str, Any]]
    records: list[dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    sizes: dict[str, Any]

    @property
    def commits(self) -> list[str | None]:
        """Of every run behind the table."""
        return [record.get("commit") for record in [*self.trials, *self.records]]

    @property
    def tuning(self) -> dict[str, Any]:
        """By row, every trial and the choice."""
        chosen = choose(self.trials)
        return {
            name: {"tried": [[dict(settings), accuracy] for settings, accuracy in tried], "chosen": chosen[name]}
            for name, tried in trial_accuracies(self.trials).items()
        }


def run_table(
    methods: Mapping[str, Method],
    preset: Preset,
    work: Callable,
    campaign: Campaign,
    chosen: Mapping[str, Mapping[str, float]] | None = None,
) -> TableRuns:
    """
    Choose settings by trials, then carry out what is reported.

    Args:
        methods (`Mapping[str, Method]`), preset ([`Preset`]):
            The table.
        work (`Callable`), campaign ([`Campaign`]):
            What carries out one run, and where.
        chosen (`Mapping`, *optional*):
            Settings of every row that were chosen elsewhere: no trials are made.
    """
    trials: list[dict[str, Any]] = []
    if chosen is None:
        preset, trials = _tuned(methods, preset, work, campaign)
        chosen = {**default_settings(methods, preset), **choose(trials)}
    for name, settings in chosen.items():
        print(f"{name}: " + ", ".join(f"{field} {value:g}" for field, value in settings.items()))
    specs = start_specs(preset) + reported_specs(methods, preset, chosen, campaign.seeds)
    configs = {
        name: {
            "label": methods[name].label,
            "trainer": methods[name].trainer.__name__,
            **methods[name].settings_in(WORLDS[preset.world]),
            "max_steps": preset.steps,
            **chosen[name],
        }
        for name in preset.methods
    }
    return TableRuns(trials, campaign.carry_out(specs, work), configs, asdict(preset))


def _tuned(
    methods: Mapping[str, Method], preset: Preset, work: Callable, campaign: Campaign
) -> tuple[Preset, list[dict[str, Any]]]:
    """The trials, and the preset with the grid of learning rates that they needed."""
    specs = trial_specs(methods, preset)
    if not specs:
        return preset, []
    # The warm starts go first, so that all are made at once, also those that no trial begins from
    starts = start_specs(preset)
    trials = campaign.carry_out([*starts, *specs], work)[len(starts) :]
    rates = wider_rates(preset.rates, [settings["learning_rate"] for settings in choose(trials).values()])
    if rates == preset.rates:
        return preset, trials
    print("A learning rate at the edge was chosen; now trying " + ", ".join(f"{rate:g}" for rate in rates))
    return _tuned(methods, replace(preset, rates=rates), work, campaign)


def planned_configs(methods: Mapping[str, Method], preset: Preset) -> list[tuple[str, type, dict[str, Any]]]:
    """Every configuration that a table may build: label, class and fields."""
    world = WORLDS[preset.world]
    return [
        (f"{name} {settings}", methods[name].config, {**methods[name].settings_in(world), **settings})
        for name in preset.methods
        for settings in combinations(methods[name], preset.rates, preset.knobs)
    ]
