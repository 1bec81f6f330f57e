"""The API reference: every public object says what it takes, and the pages are built without a warning."""

import dataclasses
import inspect
import re
import warnings
from pathlib import Path

import pdoc
import pytest

import dapo_ext
import pg_grpo
from dapo_ext import playground


PUBLIC = [
    pytest.param(getattr(package, name), id=f"{package.__name__}.{name}")
    for package in (dapo_ext, pg_grpo, playground)
    for name in package.__all__
]


@pytest.mark.parametrize("thing", PUBLIC)
def test_every_argument_and_field_is_documented(thing):
    text = inspect.getdoc(thing)
    assert text
    if dataclasses.is_dataclass(thing):
        inherited = {name for base in thing.__mro__[1:] for name in getattr(base, "__dataclass_fields__", ())}
        names = {field.name for field in dataclasses.fields(thing)} - inherited
    elif inspect.isclass(thing) and issubclass(thing, Exception):
        names = set()
    else:
        # Arguments that go to the parent are the parent's to document
        signature = inspect.signature(thing.__init__ if inspect.isclass(thing) else thing)
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = {name for name, parameter in signature.parameters.items() if parameter.kind in kinds} - {"self"}
        if "trl_args" in signature.parameters:
            names = set()
            assert "Arguments are those of" in text
    missing = [name for name in sorted(names) if f"{name} (`" not in text and f"{name} ([`" not in text]
    assert missing == []


def test_the_pages_are_built_without_a_warning(tmp_path):
    pdoc.render.configure(docformat="google", show_source=False)
    makefile = (Path(__file__).parents[1] / "Makefile").read_text().replace("\\\n", " ")
    modules = re.search("^DOCUMENTED := (.*)$", makefile, re.MULTILINE)[1].split()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pdoc.pdoc(*modules, output_directory=tmp_path)
    assert [str(warning.message) for warning in caught if "pdoc" in warning.filename] == []
    for package in (dapo_ext, pg_grpo, playground):
        page = tmp_path.joinpath(*package.__name__.split(".")).with_suffix(".html").read_text()
        assert [name for name in package.__all__ if f'id="{name}"' not in page] == []
    assert "implicit dual clip" in (tmp_path / "pg_grpo" / "ratio.html").read_text()
