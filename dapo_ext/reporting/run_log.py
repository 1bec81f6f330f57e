"""A run's metrics as one JSON object per line, for whoever has no tracker at hand."""

import json
from pathlib import Path

from transformers import TrainerCallback

from ..whole_files import write_whole


METRICS_FILE = "metrics.jsonl"  # in a run's output directory


class MetricsFile(TrainerCallback):
    """
    Appends every logged record to a file, each with its `step`.

    Args:
        path (`str` or `Path`):
            File to write; emptied when a run begins at step 0, continued when it is resumed.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            records = read_metrics(self.path) if self.path.exists() else []
            kept = [record for record in records if record["step"] <= state.global_step and state.global_step > 0]
            text = "".join(json.dumps(record) + "\n" for record in kept)
            write_whole(self.path, lambda path: path.write_text(text))

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")


def read_metrics(path: str | Path) -> list[dict]:
    """Records of a [`MetricsFile`], in order; a last line that was cut off by the end of its run is left out."""
    lines = Path(path).read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
