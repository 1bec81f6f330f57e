"""Live progress of a training run: a bar on a terminal, plain lines elsewhere."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback


# Metric -> how it is called and shown
SHOWN = {
    "dynamic_sampling/reward_all": "reward {:.2f}",
    "dynamic_sampling/reward_kept": "kept {:.2f}",
    "dynamic_sampling/accept_rate": "accept rate {:.2f}",
    "dynamic_sampling/rounds": "rounds {:.1f}",
    "entropy": "entropy {:.2f}",
    "completions/mean_length": "length {:.1f}",
}
LINES = 10  # plain lines in a whole run


def make_progress(console: Console) -> Progress:
    """The bar that [`ProgressDisplay`] and other long jobs of the package share."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
        disable=not console.is_terminal,
    )


class ProgressDisplay(TrainerCallback):
    """
    Shows step, reward over everything generated and over the kept groups, accept rate, rounds, entropy and length.

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

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self._progress = make_progress(self.console)
            self._task = self._progress.add_task(self.description, total=state.max_steps, status="")
            self._progress.start()

    def on_log(self, args, state, control, logs=None, **kwargs):
        for name, form in SHOWN.items():
            if logs.get(name) is not None:  # metrics of a generation are logged in its first step only
                self._status[name] = form.format(logs[name])

    def on_step_end(self, args, state, control, **kwargs):
        if self._progress is None:
            return
        status = "  ".join(self._status.values())
        self._progress.update(self._task, completed=state.global_step, status=status)
        if not self.console.is_terminal and state.global_step % max(1, state.max_steps // LINES) == 0:
            self.console.print(f"{self.description} {state.global_step}/{state.max_steps}  {status}", soft_wrap=True)

    def on_train_end(self, args, state, control, **kwargs):
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
