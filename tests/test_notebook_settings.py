"""
The notebooks without `SMOKE`, as far as a machine without GPU and network goes: every cell runs, every configuration is
a real one that the real classes accept, and every argument exists. Model, dataset and training are stubs.
"""

from types import SimpleNamespace

import matplotlib
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from dapo_ext import DAPOConfig
from notebooks.execute import NOTEBOOKS
from tests.stubs import built  # noqa: F401 - a fixture


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in NOTEBOOKS])
def test_the_settings_for_a_gpu_are_accepted(path, built, tmp_path):  # noqa: F811
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
