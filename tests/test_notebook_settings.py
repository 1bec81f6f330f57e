"""
The notebooks without `SMOKE`, as far as a machine without GPU and network goes: every cell runs, every configuration is
a real one that the real classes accept, and every argument exists. Model, dataset and training are stubs.
"""

import inspect
from types import SimpleNamespace

import matplotlib
import nbformat
import numpy as np
import pytest
import torch
import transformers
import trl
from datasets import Dataset
from IPython.core.inputtransformer2 import TransformerManager

import dapo_ext
import pg_grpo
from dapo_ext import DAPOConfig, Evaluation
from dapo_ext.playground import build_tokenizer
from notebooks.execute import NOTEBOOKS


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
    monkeypatch.setattr(dapo_ext, "evaluate", lambda *arguments, **settings: EVALUATION)
    monkeypatch.setattr(pg_grpo, "sample_pairs", lambda *arguments, **settings: PAIRS)
    for package, names in TRAINERS.items():
        for name in names:
            monkeypatch.setattr(package, name, stub_of(getattr(package, name), built))
    return built


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in NOTEBOOKS])
def test_the_settings_for_a_gpu_are_accepted(path, built, tmp_path):
    matplotlib.use("agg")
    (tmp_path / "runs" / "dapo").mkdir(parents=True)
    asked = []
    shell = SimpleNamespace(run_line_magic=lambda *magic: asked.append(magic))
    namespace = {"get_ipython": lambda: shell}
    with matplotlib.rc_context():  # a notebook sets its own style
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                exec(TransformerManager().transform_cell(cell.source), namespace)
    assert asked[0][0] == "pip"
    assert namespace["train"][0]["solution"] == "4"
    assert {arguments["model"] for _, arguments in built} == {"Qwen/Qwen2.5-0.5B-Instruct"}
    for _, arguments in built:
        assert arguments["args"].bf16
        assert not arguments["args"].use_cpu
        assert arguments["peft_config"] is not None
    groups = [arguments["args"] for _, arguments in built if isinstance(arguments["args"], DAPOConfig)]
    assert all(args.generation_batch_size == 512 for args in groups)  # 64 prompts x 8, as in smoke mode
