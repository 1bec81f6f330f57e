"""An early end of a run, in good order, where nothing is left to train on."""

from accelerate.logging import get_logger


logger = get_logger(__name__)


class NothingToTrainOn(RuntimeError):
    """No candidate gives a gradient. To be raised between optimizer steps, where weights and optimizer are whole."""


class EndsEarly:
    """
    Mixin, to stand before a subclass of [`~transformers.Trainer`] among the bases.

    Attributes:
        stop_reason (`str` or `None`):
            The diagnosis, when the last `train()` ended early with [`NothingToTrainOn`].
    """

    stop_reason: str | None = None

    def _inner_training_loop(self, *args, **kwargs):
        self.stop_reason = None
        return super()._inner_training_loop(*args, **kwargs)

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
