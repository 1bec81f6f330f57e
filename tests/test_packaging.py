"""The wheel and the source distribution, built without network, hold what they must and nothing else."""

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
BUILD = """
import sys
from setuptools import build_meta
target = sys.argv[1]
build_meta.build_wheel(target)
build_meta.build_sdist(target)
"""
SOURCES = {
    path.relative_to(ROOT).as_posix() for package in ("dapo_ext", "pg_grpo") for path in ROOT.glob(f"{package}/**/*.py")
}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """Built from a copy of what is tracked, so that nothing is left in the checkout and nothing of it sneaks in."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-c", BUILD, str(target)], cwd=source, capture_output=True, check=True, timeout=120)
    return next(target.glob("*.whl")), next(target.glob("*.tar.gz"))


def test_the_wheel_holds_the_packages_their_types_and_the_command(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        info = next(name.split("/")[0] for name in names if name.endswith("METADATA"))
        metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
        commands = wheel.read(f"{info}/entry_points.txt").decode()
    packed = {name for name in names if not name.startswith(info)}
    assert packed == SOURCES | {"dapo_ext/py.typed", "pg_grpo/py.typed"}
    assert "dapo_ext/playground/task.py" in packed
    assert f"{info}/licenses/LICENSE" in names
    assert "pg-grpo = pg_grpo.cli:main" in commands
    required = [name for name in metadata.get_all("Requires-Dist") if "extra ==" not in name]
    assert any(name.startswith("trl") for name in required)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "DAPO" in metadata.get_payload()


def test_the_source_distribution_can_be_built_from(built):
    with tarfile.open(built[1]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert names >= SOURCES | {"dapo_ext/py.typed", "pyproject.toml", "README.md", "LICENSE"}
    assert not any(name.startswith(("tests/", "benchmarks/", "runs/")) for name in names)
