"""Live progress of a training run: a bar on a terminal, plain lines elsewhere."""

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from transformers import TrainerCallback


# What is shown, in this order: name -> its form, and the metrics it is read from, the first that was logged
SHOWN = {
    "reward": ("reward {:.2f}", ("dynamic_sampling/reward_all", "reward")),
    "kept": ("reward of kept groups {:.2f}", ("dynamic_sampling/reward_kept",)),
    "accept rate": ("accept rate {:.2f}", ("dynamic_sampling/accept_rate", "dynamic_pairs/accept_rate")),
    "rounds": ("rounds {:.1f}", ("dynamic_sampling/rounds", "dynamic_pairs/rounds")),
    "accuracy": ("accuracy {:.2f}", ("rewards/accuracies",)),
    "margin": ("margin {:.3g}", ("rewards/margins",)),
    "entropy": ("entropy {:.2f}", ("entropy",)),
    "length": ("length {:.1f}", ("completions/mean_length",)),
}
LINES = 10  # plain lines in a whole run


class _ProgressAboveStatus(Progress):
    """Statuses stand in lines of their own: beside the bar they would push it out of a terminal of 80 columns."""

    def get_renderables(self):
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["status"], style="dim")


def make_progress(console: Console) -> Progress:
    """The bar that [`ProgressDisplay`] and other long jobs of the package share; each task has a field `status`."""
    return _ProgressAboveStatus(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


class ProgressDisplay(TrainerCallback):
    """
    Shows step, time left, reward over everything generated and over the kept groups, accept rate, rounds, entropy,
    length and tokens per second; for preference pairs, accuracy and margin of the implicit reward.

    Tokens are TRL's `num_tokens`, prompts and completions of everything generated, over the time since training began,
    or, in a resumed run, since its first log; evaluations and saves in between are in that time.

    Args:
        console (`rich.console.Console`, *optional*):
            Where to show it. On a terminal it is a live bar; otherwise about ten plain lines.
        description (`str`, *optional*, defaults to `"Training"`):
            What the bar is called.
    """

    def __init__(self, console: Console | None = None, description: str = "Training"):
        self.console = console or Console()
        self.description = description
        self._status: dict[str, str] = {}
        self._progress: Progress | None = None
        self._line_is_due = False
        self._first_count: tuple[float, float] | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self._begun, self._first_step = time.perf_counter(), state.global_step
            # Which tokens a resumed run begins with is known from its first log
            self._first_count = (0, self._begun) if state.global_step == 0 else None
            self._progress = make_progress(self.console)
            self._task = self._progress.add_task(self.description, total=state.max_steps, status="")
            self._progress.start()

    def on_log(self, args, state, control, logs=None, **kwargs):
        for name, (form, metrics) in SHOWN.items():  # metrics of a generation are logged in its first step only
            value = next((logs[metric] for metric in metrics if logs.get(metric) is not None), None)
            if value is not None:
                self._status[name] = form.format(value)
        if self._progress is not None and logs.get("num_tokens"):
            self._count_tokens(logs["num_tokens"])

    def _count_tokens(self, tokens: float) -> None:
        now = time.perf_counter()
        if self._first_count is None:
            self._first_count = (tokens, now)
        else:
            first_tokens, begun = self._first_count
            self._status["tokens"] = f"{(tokens - first_tokens) / (now - begun):,.0f} tokens/s"

    def on_step_end(self, args, state, control, **kwargs):
        self._line_is_due = state.global_step % max(1, state.max_steps // LINES) == 0

    def on_step_begin(self, args, state, control, **kwargs):
        self._show(state)  # what the last step logged is known by now

    def on_train_end(self, args, state, control, **kwargs):
        if self._progress is not None:
            self._show(state)
            self._progress.stop()
            self._progress = None

    def _show(self, state) -> None:
        if self._progress is None:
            return
        status = "  ".join(self._status.values())
        self._progress.update(self._task, completed=state.global_step, status=status)
        if self._line_is_due and not self.console.is_terminal:
            line = f"{self.description} {state.global_step}/{state.max_steps}  {self._time_left(state)} left  {status}"
            self.console.print(line, soft_wrap=True)
        self._line_is_due = False

    def _time_left(self, state) -> timedelta:
        per_step = (time.perf_counter() - self._begun) / (state.global_step - self._first_step)
        return timedelta(seconds=round(per_step * (state.max_steps - state.global_step)))
