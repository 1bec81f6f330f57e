"""A table of methods: trials where settings are to be chosen, then the reported runs of every row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.method_runs import START, MethodSpec
from benchmarks.methods import Method
from benchmarks.playground_runs import run_all
from benchmarks.trials import TUNING_SEED, choose, combinations, trial_accuracies
from benchmarks.worlds import PLAYGROUND, WORLDS


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
            Learning rates tried for every row; a single combination of rate and knob takes no trial.
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


@dataclass(frozen=True)
class Campaign:
    """Where and how the runs of a benchmark are carried out, see [`~benchmarks.playground_runs.run_all`]."""

    out: str
    seeds: int
    jobs: int
    warm_starts: str
    deadline: float | None = None

    def carry_out(self, specs: Sequence[MethodSpec], work: Callable) -> list[dict[str, Any]]:
        store = Path(self.out).with_suffix(".runs")
        return run_all(specs, work, store, Path(self.warm_starts), self.jobs, self.deadline)


def trial_specs(methods: Mapping[str, Method], preset: Preset) -> list[MethodSpec]:
    """The trials, on the tuning split, measured at the end alone; none where there is nothing to choose."""
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
                    tried=settings,
                )
            )
    return specs


def default_settings(methods: Mapping[str, Method], preset: Preset) -> dict[str, dict[str, float]]:
    """The first combination of each row."""
    return {name: combinations(methods[name], preset.rates, preset.knobs)[0] for name in preset.methods}


def reported_specs(
    methods: Mapping[str, Method], preset: Preset, chosen: Mapping[str, Mapping[str, float]], seeds: int
) -> list[MethodSpec]:
    """The reported runs with the chosen settings, seed by seed, after the warm starts themselves."""
    sizes: dict[str, Any] = {
        "evaluate_every": preset.evaluate_every,
        "held_out": preset.held_out,
        "curve_prompts": preset.curve_prompts,
        "samples": preset.samples,
        "world": preset.world,
    }
    warm_starts = [MethodSpec(START, start, 0, 0, **sizes) for start in preset.starts]
    return warm_starts + [
        MethodSpec(
            name,
            start,
            seed,
            preset.steps,
            changes={**methods[name].settings_in(WORLDS[preset.world]), **chosen[name]},
            tried=chosen[name],
            **sizes,
        )
        for seed in range(seeds)
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
    def tuning(self) -> dict[str, Any]:
        """By row, every trial and the choice."""
        chosen = choose(self.trials)
        return {
            name: {"tried": [[dict(settings), accuracy] for settings, accuracy in tried], "chosen": chosen[name]}
            for name, tried in trial_accuracies(self.trials).items()
        }


def run_table(methods: Mapping[str, Method], preset: Preset, work: Callable, campaign: Campaign) -> TableRuns:
    """Choose settings by the trials, then carry out what is reported."""
    trials = campaign.carry_out(trial_specs(methods, preset), work)
    chosen = {**default_settings(methods, preset), **choose(trials)}
    for name, settings in chosen.items() if trials else ():
        print(f"{name}: " + ", ".join(f"{field} {value:g}" for field, value in settings.items()))
    records = campaign.carry_out(reported_specs(methods, preset, chosen, campaign.seeds), work)
    configs = {
        name: {
            "label": methods[name].label,
            "trainer": methods[name].trainer.__name__,
            **methods[name].settings_in(WORLDS[preset.world]),
            **chosen[name],
        }
        for name in preset.methods
    }
    return TableRuns(trials, records, configs, asdict(preset))


def planned_configs(methods: Mapping[str, Method], preset: Preset) -> list[tuple[str, type, dict[str, Any]]]:
    """Every configuration that a table may build: label, class and fields."""
    world = WORLDS[preset.world]
    return [
        (f"{name} {settings}", methods[name].config, {**methods[name].settings_in(world), **settings})
        for name in preset.methods
        for settings in combinations(methods[name], preset.rates, preset.knobs)
    ]
