"""The worked example in CONTRIBUTING.md: the block itself is executed, and does what its text says."""

import re
import runpy
from pathlib import Path

import pytest
import torch

from dapo_ext.playground import build_tokenizer
from tests.tiny import DEFAULTS, dapo_trainer, odd_length, policy, prompts, weights


CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    (block,) = re.findall(r"```python\n(.*?)```", CONTRIBUTING.read_text(), flags=re.DOTALL)
    assert 25 <= len(block.splitlines()) <= 35
    path = tmp_path_factory.mktemp("contributing") / "technique.py"
    path.write_text(block)
    return runpy.run_path(str(path))


def trained(example, output_dir, **changes) -> torch.Tensor:
    trainer = example["WeightedTrainer"](
        model=policy(),
        reward_funcs=odd_length,
        args=example["WeightedConfig"](str(output_dir), **{**DEFAULTS, "max_steps": 2, **changes}),
        train_dataset=prompts(),
        processing_class=build_tokenizer(),
    )
    trainer.train()
    return weights(trainer)


def test_the_neutral_setting_is_the_parent_to_the_bit_and_another_is_not(example, tmp_path):
    parent = dapo_trainer(tmp_path / "parent", max_steps=2)
    parent.train()
    assert torch.equal(trained(example, tmp_path / "neutral", positive_weight=1.0), weights(parent))
    assert not torch.equal(trained(example, tmp_path / "weighted"), weights(parent))


def test_positive_advantages_are_scaled_and_other_weights_refused(example, tmp_path):
    advantages = torch.tensor([1.5, 0.0, -1.5])
    assert example["weight_positive"](advantages, 0.1).tolist() == pytest.approx([0.15, 0.0, -1.5])
    with pytest.raises(ValueError, match=r"`positive_weight=2.0` is refused: .* Remedy: give a number from 0 to 1\."):
        example["WeightedConfig"](str(tmp_path), **{**DEFAULTS, "positive_weight": 2.0})
