"""Finding applications by import path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.cli.errors import ImportPathError
from fairlead.cli.imports import load_application
from fairlead.serve import Application

MODULE = """
import pydantic
from fairlead import serve

@serve.deployment
def hello():
    return "hello"

app = hello.bind()
not_an_app = 5

def build(arguments):
    assert arguments == {"size": "3"}
    return app

def build_plain():
    return app

class Arguments(pydantic.BaseModel):
    size: int

def build_model(arguments: Arguments):
    assert arguments.size == 3
    return app
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "shop_for_imports.py").write_text(MODULE)
    (tmp_path / "broken_for_imports.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield str(tmp_path)
    for name in ("shop_for_imports", "broken_for_imports"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["app", "build_plain"])
def test_applications_and_builders(project: str, name: str) -> None:
    assert isinstance(load_application(f"shop_for_imports:{name}", project), Application)


def test_a_builder_gets_arguments(project: str) -> None:
    assert isinstance(load_application("shop_for_imports:build", project, {"size": "3"}), Application)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("shop_for_imports", "is not an import path"),
        (":app", "is not an import path"),
        ("no_such_shop:app", "there is no module 'no_such_shop'"),
        ("shop_for_imports:ap", "has no 'ap'. Did you mean 'app'?"),
        ("shop_for_imports:not_an_app", "is of type int, not an application"),
        ("shop_for_imports:hello", "is of type Deployment, not an application"),
    ],
)
def test_what_leads_nowhere_is_named(project: str, path: str, message: str) -> None:
    with pytest.raises(ImportPathError) as caught:
        load_application(path, project)
    assert message in str(caught.value)


def test_what_the_module_raises_is_one_line_with_its_place(project: str) -> None:
    with pytest.raises(ImportPathError) as caught:
        load_application("broken_for_imports:app", project)
    message = str(caught.value)
    assert "importing 'broken_for_imports' failed: ModuleNotFoundError: No module named 'a_module_that" in message
    assert message.endswith("broken_for_imports.py, line 1)")
    assert "\n" not in message


def test_what_a_builder_raises_is_one_line_with_its_place(project: str) -> None:
    with pytest.raises(ImportPathError, match=r"'shop_for_imports:build' failed: AssertionError \(.*shop.*line 13\)"):
        load_application("shop_for_imports:build", project, {"size": "4"})


def test_a_builder_may_ask_for_a_model(project: str) -> None:
    assert isinstance(load_application("shop_for_imports:build_model", project, {"size": "3"}), Application)
    with pytest.raises(ImportPathError, match=r"arguments of the builder 'shop.*': size: Input should be a valid int"):
        load_application("shop_for_imports:build_model", project, {"size": "three"})


def test_what_takes_no_arguments_is_given_none(project: str) -> None:
    for name in ("app", "build_plain"):
        with pytest.raises(ImportPathError, match="takes no arguments"):
            load_application(f"shop_for_imports:{name}", project, {"size": "3"})
