"""The README's examples: they run one after the other, with real configurations and arguments that exist."""

import re
from pathlib import Path

from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.playground import build_policy, build_tokenizer
from pg_grpo import PGDPOConfig, PGDPOTrainer, PGGRPOConfig, PGGRPOTrainer
from tests.stubs import PAIRS, built  # noqa: F401 - a fixture
from tests.tiny import SMALL


README = Path(__file__).parents[1] / "README.md"


def test_every_python_block_of_the_readme_runs(built, capsys):  # noqa: F811
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {"model": build_policy(0, **SMALL), "tokenizer": build_tokenizer(), "pairs": PAIRS, "held_out": PAIRS}
    for block in blocks:
        exec(block, names)
    classes = [(trainer, type(arguments["args"])) for trainer, arguments in built]
    assert classes == [(DAPOTrainer, DAPOConfig), (PGGRPOTrainer, PGGRPOConfig), (PGDPOTrainer, PGDPOConfig)]
    assert capsys.readouterr().out == "0.5 (0.4, 0.6) {1: 0.5, 4: 0.8}\n"
