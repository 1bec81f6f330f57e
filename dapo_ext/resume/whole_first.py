"""What the host does with a checkpoint that it takes for whole waits until it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.trainer_utils import rotate_checkpoints

from .checkpoint_choice import remove_torn


class WholeFirst:
    """
    Mixin, to stand before a subclass of [`~transformers.Trainer`] among the bases.

    The host deletes older checkpoints and uploads the new one as soon as its own files are written. Within
    [`_rotation_and_upload_later`] it does neither, and the caller does both once everything else is written too.
    """

    _uploads_later: list[str] | None = None  # while a checkpoint is being written
    _limit_later: int | None = None  # save_total_limit, meanwhile

    @contextmanager
    def _rotation_and_upload_later(self) -> Iterator[list[str]]:
        """Yields what is to be uploaded afterwards."""
        self._limit_later, self.args.save_total_limit = self.args.save_total_limit, None
        self._uploads_later = []
        try:
            yield self._uploads_later
        finally:
            self.args.save_total_limit = self._limit_later
            self._limit_later = self._uploads_later = None

    @contextmanager
    def _limit_in_place(self) -> Iterator[None]:
        """The configuration as it was given, for what writes it down."""
        hidden = self.args.save_total_limit
        self.args.save_total_limit = hidden or self._limit_later
        try:
            yield
        finally:
            self.args.save_total_limit = hidden

    def _save(self, *args, **kwargs):
        with self._limit_in_place():
            super()._save(*args, **kwargs)

    def create_model_card(self, *args, **kwargs):
        with self._limit_in_place():
            super().create_model_card(*args, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder):
        if self._uploads_later is None:
            super()._push_from_checkpoint(checkpoint_folder)
        else:
            self._uploads_later.append(checkpoint_folder)

    def _rotate_checkpoints(self, newest: Path) -> None:
        if self.args.save_total_limit:
            remove_torn(newest.parent)  # the host would count them, and keep one in the place of a whole one
        rotate_checkpoints(
            output_dir=str(newest.parent),
            save_total_limit=self.args.save_total_limit,
            best_model_checkpoint=self.state.best_model_checkpoint,
            use_mtime=True,
        )
