"""The dataclasses a training command takes its options from, beside the trainers' configurations."""

from dataclasses import dataclass, field

from trl import ModelConfig, ScriptArguments
from trl.scripts.grpo import GRPOScriptArguments


DATASET_HELP = (
    "Local JSON, JSON lines, Parquet or CSV file, folder written by `save_to_disk`, folder of such files, or name on "
    "the Hub. Ignored if `datasets` is given."
)


@dataclass
class _DryRun:
    dry_run: bool = field(
        default=False,
        metadata={
            "help": "Build model, dataset and trainer, print the resolved configuration and the batch arithmetic, and "
            "train nothing."
        },
    )


@dataclass
class GroupArguments(_DryRun, GRPOScriptArguments):
    """TRL's options of `trl grpo`, and `dry_run`."""

    dataset_name: str | None = field(default=None, metadata={"help": DATASET_HELP})


@dataclass
class PairArguments(_DryRun, ScriptArguments):
    """TRL's options of `trl dpo`, and `dry_run`."""

    dataset_name: str | None = field(default=None, metadata={"help": DATASET_HELP})


@dataclass
class ModelArguments(ModelConfig):
    """TRL's model options; the only change is that double quantization is on for 4-bit weights, as in QLoRA."""

    use_bnb_nested_quant: bool = field(
        default=True,
        metadata={"help": "Quantize the quantization constants too (double quantization), as QLoRA does."},
    )
