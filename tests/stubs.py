"""Trainers, models and data that are not there: what a text or a notebook builds for a GPU and the hub, as stubs."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
import trl
from datasets import Dataset

import dapo_ext
import pg_grpo
from dapo_ext import Evaluation
from dapo_ext.playground import build_tokenizer


TRAINERS = {
    dapo_ext: ["DAPOTrainer"],
    pg_grpo: ["PGDPOTrainer", "PGGRPOTrainer"],
    trl: ["DPOTrainer", "GRPOTrainer", "RewardTrainer"],
}
EVALUATION = Evaluation(0.5, (0.4, 0.6), {1: 0.5, 4: 0.8}, {1: (0.4, 0.6), 4: (0.7, 0.9)}, 4, 8, 9.0, 0.0, np.ones(1))
PAIRS = Dataset.from_list([{"prompt": "1+1=", "chosen": "2", "rejected": "3"}])


class LoggedRecord(dict):
    """A step that logged one half for whatever is asked."""

    def __missing__(self, name):
        return 0.5

    def get(self, name, default=None):
        return self[name]


def stub_of(trainer_class, built):
    """Takes what the trainer takes, and trains nothing."""
    signature = inspect.signature(trainer_class.__init__)

    class Stub:
        def __init__(self, **arguments):
            signature.bind(self, **arguments)
            built.append((trainer_class, arguments))
            self.model = torch.nn.Linear(1, 1)
            self.state = SimpleNamespace(log_history=[LoggedRecord(step=step) for step in range(1, 9)], global_step=8)
            totals = {"generated_groups": 2, "trained_groups": 1, "informative_fraction": 1.0, "generated_tokens": 9}
            self.sampler = SimpleNamespace(ledger=SimpleNamespace(**totals))

        def remove_callback(self, callback):
            pass

        def train(self):
            pass

        def evaluate(self, dataset):
            return {"eval_accuracy": 0.5}

    return Stub


def function_stub_of(function, result):
    """Takes what the function takes, and does nothing for its result."""
    signature = inspect.signature(function)

    def stub(*arguments, **settings):
        signature.bind(*arguments, **settings)
        return result

    return stub


@pytest.fixture
def built(monkeypatch, tmp_path):
    """Trainers that a notebook has built, with their arguments."""
    built = []
    rows = Dataset.from_list([{"question": "Two and two?", "answer": "2 + 2 = 4\n#### 4"}] * 1024)
    monkeypatch.delenv("SMOKE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.load_dataset", lambda *names, split: [rows for _ in split])
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: True)
    # The answer that the configuration asks for, which transformers remembers once it was given
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    for auto in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM):
        monkeypatch.setattr(auto, "from_pretrained", lambda name, **settings: build_tokenizer())
    monkeypatch.setattr(dapo_ext, "evaluate", function_stub_of(dapo_ext.evaluate, EVALUATION))
    monkeypatch.setattr(pg_grpo, "sample_pairs", function_stub_of(pg_grpo.sample_pairs, PAIRS))
    for package, names in TRAINERS.items():
        for name in names:
            monkeypatch.setattr(package, name, stub_of(getattr(package, name), built))
    return built
