"""What a trainer that refills its batches adds to a run: an early end in good order, and state in the checkpoint."""

from typing import Protocol

from accelerate.logging import get_logger

from .checkpoint import SamplingState, load_state, save_state


logger = get_logger(__name__)


class NothingToTrainOn(RuntimeError):
    """No candidate gives a gradient. To be raised between optimizer steps, where weights and optimizer are whole."""


class Stateful(Protocol):
    """What belongs in a checkpoint."""

    def state(self) -> SamplingState:
        """Everything the next batch depends on; called on every rank."""

    def load_state(self, state: SamplingState) -> None:
        """Continue from [`state`]."""


class RefillingRun:
    """
    Mixin, to stand before a subclass of [`~transformers.Trainer`] among the bases.

    Attributes:
        sampler ([`Stateful`] or `None`):
            What refills the batches; its state is saved and loaded with the checkpoints. `None`: nothing differs from
            the parent.
        stop_reason (`str` or `None`):
            The diagnosis, when training ended early with [`NothingToTrainOn`].
    """

    sampler: Stateful | None = None
    stop_reason: str | None = None

    def _run_epoch(self, *args, **kwargs):
        try:
            super()._run_epoch(*args, **kwargs)
        except NothingToTrainOn as error:
            self.stop_reason = str(error)
            logger.warning(f"Training ends at step {self.state.global_step}. {error}")
            self.log({})
            if self.args.save_strategy != "no":
                self._save_checkpoint(kwargs["model"], kwargs["trial"])
                self.control = self.callback_handler.on_save(self.args, self.state, self.control)
            self.control.should_training_stop = True

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        if self.sampler is not None:
            state = self.sampler.state()  # on every rank
            if self.args.should_save:
                features = getattr(self.train_dataset, "features", None)
                save_state(self._get_output_dir(trial=trial), self.state.global_step, state, features)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.sampler is not None and checkpoint is not None:
            state = load_state(checkpoint)
            if state is not None:
                self.sampler.load_state(state)
