"""
Execute the notebooks in smoke mode and store their outputs: `python -m notebooks.execute [NAME ...]`.

Each runs in a fresh kernel and a temporary directory that they share, so that one warm start serves all.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient


NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))
SECONDS_PER_CELL = 1800


def execute(path: Path, directory: Path) -> nbformat.NotebookNode:
    """
    Execute one notebook in smoke mode.

    Args:
        path (`Path`):
            The notebook; the file is left as it is.
        directory (`Path`):
            Where its kernel runs and writes.

    Returns:
        `nbformat.NotebookNode`: the notebook with the outputs of this run.

    Raises:
        nbclient.exceptions.CellExecutionError: when a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(directory)}},
    )
    client.execute(env={**os.environ, "SMOKE": "1"})
    # What the kernel says of itself is this machine's
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main(names: list[str]) -> None:
    """Execute the named notebooks, or all of them, and write their outputs into them."""
    chosen = [path for path in NOTEBOOKS if not names or path.name in names or path.stem in names]
    with TemporaryDirectory() as directory:
        for path in chosen:
            print(f"{path.name} ...", flush=True)
            notebook = execute(path, Path(directory))
            path.write_text(nbformat.writes(notebook) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
