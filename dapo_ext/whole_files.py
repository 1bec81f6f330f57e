"""Files that appear whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


PARTIAL = ".partial"


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """
    Let `write` write a file beside `path`, bring it to the disk, and rename it to `path`.

    Whoever is killed meanwhile leaves what was there before, and at most a file that ends in `.partial`.
    """
    partial = path.with_name(path.name + PARTIAL)
    write(partial)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
