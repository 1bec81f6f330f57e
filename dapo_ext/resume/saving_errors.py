"""A checkpoint that could not be written: say which, where, and what is still whole."""

import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


class ExplainedSaving:
    """
    Mixin, to stand first among the bases of a subclass of [`ExactResume`], which knows the last whole checkpoint.

    The only change: an error while a checkpoint is written says where, since those of the libraries that write it do
    not. It still ends the run, because a run that goes on without being saved is lost later.
    """

    def _save_checkpoint(self, model, trial):
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            folder = Path(self._get_output_dir(trial=trial))
            checkpoint = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            remedy = "Make room or make the folder writable. " if isinstance(error, OSError) else ""
            error.add_note(
                f"Raised while {checkpoint} was written to {folder}, {_describe_room(folder)}. "
                f"{remedy}{_describe_way_on(self._whole_checkpoint)}"
            )
            raise


def _describe_room(folder: Path) -> str:
    try:
        return f"where {shutil.disk_usage(folder).free / 2**20:.0f} MiB are free"
    except OSError as error:  # the folder is gone, or its disk; the error that is explained matters more
        return f"which cannot be looked at ({error.strerror})"


def _describe_way_on(whole: Path | None) -> str:
    if whole is None or not whole.is_dir():
        return "There is no whole checkpoint of this run yet: begin it anew with trainer.train()."
    return (
        f"Earlier checkpoints are untouched: go on with trainer.train(resume_from_checkpoint={str(whole)!r}), or with "
        "True where that is the newest of output_dir."
    )
