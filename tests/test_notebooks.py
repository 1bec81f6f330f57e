"""The notebooks: what is stored in them, and each of them executed in smoke mode."""

import ast
import re

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from notebooks.execute import NOTEBOOKS, execute


REPOSITORY = "pg-grpo/pg-grpo"
# A path of a machine, such as /home/me or C:\Users; not a URL, and not a fraction such as 1/N
ABSOLUTE_PATH = re.compile(r"(?<![\w:/.])/(?:home|root|tmp|usr|opt|var|work|content|Users|mnt)\b|[A-Z]:\\\\")
# What a notebook that trains by itself could not do without
OWN_TRAINING = {"backward", "optim", "Optimizer", "Module"}
LONGEST_FUNCTION = 10


def named(paths):
    return [pytest.param(path, id=path.stem) for path in paths]


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(notebook) -> str:
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return "\n".join(TransformerManager().transform_cell(source) for source in cells)


def complaints(notebook) -> list[str]:
    """Everything in the outputs that a reader would have to worry about."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [
        output.get("text") or "\n".join(output["traceback"])
        for output in outputs
        if output.output_type == "error" or (output.output_type == "stream" and output.name == "stderr")
    ]


def images(notebook) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_four():
    assert [path.name for path in NOTEBOOKS] == [
        "01_dapo_quickstart.ipynb",
        "02_dapo_ablation.ipynb",
        "03_pg_grpo.ipynb",
        "04_preferences_offline_and_online.ipynb",
    ]


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_a_badge_leads_and_the_first_cell_of_code_installs(path):
    cells = read(path).cells
    badge, title = cells[0].source.splitlines()[0], cells[0].source.splitlines()[2]
    assert badge.startswith("[![Open in Colab]")
    assert badge.endswith(f"(https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{path.name})")
    assert title.startswith("# ")
    first = next(cell for cell in cells if cell.cell_type == "code")
    assert f'%pip install --quiet "pg-grpo @ git+https://github.com/{REPOSITORY}"' in first.source


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_stored_outputs_are_of_one_run_and_carry_plots(path):
    notebook = read(path)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert images(notebook) >= 1
    assert complaints(notebook) == []
    assert "(`SMOKE=1`)" in notebook.cells[0].source  # says what the outputs are of


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_nothing_of_a_machine_is_stored(path):
    text = [
        str(value)
        for cell in read(path).cells
        for output in [{"data": {"source": cell.source}}, *cell.get("outputs", [])]
        for kind, value in {**output.get("data", {}), "text": output.get("text", "")}.items()
        if kind != "image/png"
    ]
    assert not ABSOLUTE_PATH.search("\n".join(text))


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_no_algorithm_is_defined(path):
    tree = ast.parse(code_of(read(path)))
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f.name for f in functions if f.end_lineno - f.lineno >= LONGEST_FUNCTION] == []
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & OWN_TRAINING


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """One directory for all of them, so that one warm start serves all."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.xdist_group("notebooks")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_a_smoke_run_ends_without_error_or_warning(path, directory):
    notebook = execute(path, directory)
    assert complaints(notebook) == []
    assert images(notebook) == images(read(path))
