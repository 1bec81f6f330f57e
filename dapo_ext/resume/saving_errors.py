"""A checkpoint that could not be written: say which, where, and what is still whole."""

import shutil

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


class ExplainedSaving:
    """
    Mixin, to stand first among the bases of a subclass of [`~transformers.Trainer`].

    The only change: an error while a checkpoint is written says where, since those of the libraries that write it do
    not. It still ends the run, because a run that goes on without being saved is lost later.
    """

    def _save_checkpoint(self, model, trial):
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            folder = self._get_output_dir(trial=trial)
            error.add_note(
                f"Raised while {PREFIX_CHECKPOINT_DIR}-{self.state.global_step} was written to {folder}, where "
                f"{shutil.disk_usage(folder).free / 2**20:.0f} MiB are free. Earlier checkpoints are untouched. Make "
                "room or make the folder writable, and go on with trainer.train(resume_from_checkpoint=True)."
            )
            raise
