"""What the usual reward model, a scalar read out at EOS, makes of the same pairs: shown beside, and not used."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PrinterCallback
from trl import RewardConfig, RewardTrainer

from benchmarks.harness.methods import offline
from benchmarks.harness.worlds import World, device


PAIRS_PER_UPDATE = 32
EPOCHS = 3
LEARNING_RATE = 1e-3
LARGE_LEARNING_RATE = 5e-5  # of a policy for a GPU


def scalar_head_settings(world: World) -> dict[str, Any]:
    """Fields of TRL's `RewardConfig`."""
    rate = LARGE_LEARNING_RATE if world.on_gpu else LEARNING_RATE
    settings = {**offline(PAIRS_PER_UPDATE), "learning_rate": rate, "num_train_epochs": EPOCHS}
    return {**settings, "disable_dropout": True, **world.settings}


def scalar_head_figures(
    start: Path, world: World, seed: int, directory: Path, pairs: Dataset, held_out: Dataset
) -> dict[str, float]:
    """Share of pairs that TRL's `RewardTrainer` puts in the right order: of `held_out`, and of its last epoch's."""
    model = AutoModelForSequenceClassification.from_pretrained(start, num_labels=1)
    trainer = RewardTrainer(
        model=model.to(device() if world.on_gpu else "cpu"),
        args=RewardConfig(str(directory / "scalar-head"), seed=seed, **scalar_head_settings(world)),
        train_dataset=pairs,
        eval_dataset=held_out,
        processing_class=AutoTokenizer.from_pretrained(start),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    logged = trainer.state.log_history
    last = [entry["accuracy"] for entry in logged if "accuracy" in entry and entry["epoch"] > EPOCHS - 1]
    return {
        "scalar_head_accuracy": trainer.evaluate()["eval_accuracy"],
        "scalar_head_training_accuracy": float(np.mean(last)),
    }
