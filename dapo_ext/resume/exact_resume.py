"""Checkpoints from which a killed run goes on as if it had never stopped."""

import os
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from datasets import IterableDataset
from safetensors.torch import load_file, save_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..whole_files import write_whole
from .checkpoint import SamplingState, load_state, save_state
from .checkpoint_choice import choose_checkpoint, refuse_missing
from .checkpoint_manifest import MANIFEST_FILE, close_manifest, open_manifest, read_manifest
from .rank_state import RankState, load_rank_state, rank_state_file, rank_to_read, save_rank_state
from .run_identity import OPTIMIZER_FIELDS, check_same_run, describe_dataset, warn_of_optimizer_fields
from .sampler_order import seek_epoch
from .whole_first import WholeFirst


logger = get_logger(__name__)

REFERENCE_FILE = "reference_model.safetensors"


class Stateful(Protocol):
    """What belongs in a checkpoint."""

    def state(self) -> SamplingState:
        """Everything the next batch depends on; called on every rank."""

    def load_state(self, state: SamplingState) -> None:
        """Continue from [`state`]."""


class ExactResume(WholeFirst):
    """
    Mixin, to stand before a subclass of [`~transformers.Trainer`] among the bases.

    What the host keeps in a checkpoint stays the host's. Added to it: the state of `sampler`; of every rank the place
    in the data, the random state at the epoch's beginning and what was measured since the last log; a reference model
    that is synchronized with the policy; and a manifest that tells a whole checkpoint from a torn one. After a resume
    in a later epoch the data come in the order of the uninterrupted run, where the host begins the order of the first
    epoch again.

    Attributes:
        sampler ([`Stateful`] or `None`):
            What selects the data; its state is saved and loaded with the checkpoints.
    """

    sampler: Stateful | None = None
    _whole_checkpoint: Path | None = None  # written last, or resumed from
    _resumed: RankState | None = None  # to be put in place when the first epoch begins
    _passes_before = 0  # over an iterable dataset, of which the host does not know after a resume

    def train(self, resume_from_checkpoint: bool | str | os.PathLike | None = None, *args, **kwargs):
        """
        Train, from the beginning or from a checkpoint.

        Args:
            resume_from_checkpoint (`bool`, `str` or `os.PathLike`, *optional*):
                `True` for the newest whole checkpoint of `output_dir`; torn ones are skipped with a warning. A path for
                that checkpoint and no other.
            *args, **kwargs:
                See [`~transformers.Trainer.train`].

        Raises:
            ValueError: when there is no checkpoint to resume from, it is torn, or another run wrote it.
        """
        self._forget_last_call()
        if resume_from_checkpoint:
            reads = self.args.should_save
            folder = choose_checkpoint(resume_from_checkpoint, self.args.output_dir, reads, gather_object)
            self._check_checkpoint(folder)
            self._whole_checkpoint, resume_from_checkpoint = folder.resolve(), str(folder)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _forget_last_call(self) -> None:
        """What an earlier `train()` of this trainer left half-done, as one does that was interrupted."""
        self._whole_checkpoint, self._resumed, self._passes_before = None, None, 0
        self._metrics["train"].clear()
        self.current_flos = 0

    def _run_fields(self) -> dict[str, Any]:
        """Fields that a run has in common with every checkpoint it may be resumed from."""
        args = self.args
        fields = {"trainer": self._name, "seed": args.seed, "data_seed": args.data_seed, "optim": str(args.optim)}
        fields["sync_ref_model"] = args.sync_ref_model
        return {**fields, "train_dataset": describe_dataset(self.train_dataset)}

    def _optimizer_fields(self) -> dict[str, float]:
        return {name: getattr(self.args, name) for name in OPTIMIZER_FIELDS}

    def _check_checkpoint(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        if not any(gather_object([manifest is not None])):
            logger.warning(
                f"{folder} has no {MANIFEST_FILE}: another trainer wrote it. Weights, optimizer, schedule and place in "
                "the data are taken from it. What it does not hold begins anew: the generation at hand, waiting "
                "groups, the stream of extra prompts, the estimates of pass rates. The run is not the one that was "
                "interrupted."
            )
            return
        self._refuse_missing(folder, [MANIFEST_FILE] if manifest is None else [])
        assert manifest is not None  # or all ranks have been told
        check_same_run(str(folder), manifest["run"], self._run_fields())
        missing = [name for name in self._own_files(manifest) if name not in manifest["files"]]
        self._refuse_missing(folder, missing)
        warn_of_optimizer_fields(str(folder), manifest["optimizer"], self._optimizer_fields())
        if self.args.ignore_data_skip:
            logger.warning("ignore_data_skip=True: the epoch begins anew, so prompts it has seen come again.")

    def _refuse_missing(self, folder: Path, names: list[str]) -> None:
        refuse_missing(folder, names, self.args.process_index, gather_object)

    def _own_files(self, manifest: dict[str, Any]) -> list[str]:
        """What this rank will read beside the host's files and the sampler's state."""
        rank = rank_to_read(manifest["world_size"], self.args.process_index, self.args.world_size)
        return [rank_state_file(rank), *([REFERENCE_FILE] if self._synchronized_reference else [])]

    # ---- Saving ----

    def _save_checkpoint(self, model, trial):
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if folder.resolve() == self._whole_checkpoint:
            return  # of this very step; to write it again would put the only whole one at risk
        if self.args.should_save:
            open_manifest(folder)
        self.accelerator.wait_for_everyone()
        with self._rotation_and_upload_later() as upload:
            super()._save_checkpoint(model, trial)
        self._save_own_state(folder)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            facts = {"run": self._run_fields(), "optimizer": self._optimizer_fields()}
            close_manifest(
                folder, {"weights_only": self.args.save_only_model, "world_size": self.args.world_size, **facts}
            )
            self._rotate_checkpoints(folder)
        self._whole_checkpoint = folder.resolve()
        for uploaded in upload:
            self._push_from_checkpoint(uploaded)

    def _save_own_state(self, folder: Path) -> None:
        if self.args.save_only_model:
            return
        save_rank_state(folder, self.args.process_index, self._rank_state())
        if self.sampler is not None:
            state = self.sampler.state()  # on every rank
            if self.args.should_save:
                save_state(folder, state, getattr(self.train_dataset, "features", None))
        if self._synchronized_reference and self.args.should_save:
            parameters = {name: p.detach().cpu().contiguous() for name, p in self._synchronized_reference.items()}
            write_whole(folder / REFERENCE_FILE, lambda path: save_file(parameters, path))

    @property
    def _synchronized_reference(self) -> dict[str, torch.nn.Parameter]:
        """Parameters of a reference that moves (`sync_ref_model`); of a sharded one no rank has them whole."""
        if not self.args.sync_ref_model or self.is_deepspeed_enabled or self.is_fsdp_enabled:
            return {}
        return dict(self.accelerator.unwrap_model(self.ref_model).named_parameters())

    def _rank_state(self) -> RankState:
        """What this rank needs beyond what the host saves."""
        batches = round(((self.state.epoch or 0.0) - self._epoch) * self._steps_in_epoch)
        values = {
            "epoch": self._epoch,
            "batches_of_epoch": max(batches, 0),
            "total_train_tokens": self._total_train_tokens,
            "last_logged_step": self._globalstep_last_logged,
            "metrics": self._metrics["train"],
        }
        return RankState(values, {"epoch_rng": self._epoch_rng, "loss_since_log": self._tr_loss})

    # ---- Loading ----

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        if self.sampler is not None:
            state = load_state(checkpoint)
            if state is not None:
                self.sampler.load_state(state)
        folder = Path(checkpoint)
        manifest = read_manifest(folder)
        if manifest is not None:
            self._load_rng_state(checkpoint)  # the host does so where there is a step left to make
            rank = rank_to_read(manifest["world_size"], self.args.process_index, self.args.world_size)
            self._load_rank_state(load_rank_state(folder, rank))
            reference = load_file(folder / REFERENCE_FILE) if self._synchronized_reference else {}
            with torch.no_grad():
                for name, parameter in self._synchronized_reference.items():
                    parameter.copy_(reference[name])

    def _load_rank_state(self, state: RankState) -> None:
        self._total_train_tokens = state.values["total_train_tokens"]
        self._metrics["train"].update(state.values["metrics"])
        self.model.train()  # what is logged next is of training, also where no step is left to make
        self._resumed = state

    def _run_epoch(self, **position):
        if position["resume_from_checkpoint"] is not None and position["epoch"] == position["epochs_trained"]:
            if self.state.global_step >= self.state.max_steps:  # the host would make one step too many
                self.control.should_training_stop = True
                return
            seek_epoch(position["train_dataloader"], position["epoch"])
            self._resume_epoch(position)
        else:
            position["epoch"] += self._passes_before
        self._epoch, self._steps_in_epoch = position["epoch"], position["steps_in_epoch"]
        self._epoch_rng = torch.get_rng_state()
        super()._run_epoch(**position)

    def _resume_epoch(self, position: dict[str, Any]) -> None:
        """Put in place what the host's loop has begun anew, and correct the place it starts from."""
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            return
        values = resumed.values
        self._globalstep_last_logged = values["last_logged_step"]
        self._tr_loss.copy_(resumed.tensors["loss_since_log"])
        if self.args.ignore_data_skip:
            return
        if isinstance(self.train_dataset, IterableDataset):
            # The host takes the whole run for one pass
            self._passes_before = values["epoch"] - position["epoch"]
            position["epoch"] = position["epochs_trained"] = values["epoch"]
            position["steps_trained_in_current_epoch"] = values["batches_of_epoch"]
        if position["steps_trained_in_current_epoch"] == 0:
            self._load_rng_state(position["resume_from_checkpoint"])
        else:  # samplers that draw from it find the epoch's order again; the host goes on with the step's state
            torch.set_rng_state(resumed.tensors["epoch_rng"])
