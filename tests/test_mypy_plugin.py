"""What mypy makes of classes under ``@serve.deployment``, with the plugin and without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SHELF = """\
from fairlead import serve


@serve.deployment
class Model:
    size = 1

    def __init__(self, size: int = 1) -> None:
        self.size = size

    def __call__(self, text: str) -> int:
        return len(text)

    @classmethod
    def default(cls) -> int:
        return cls.size
"""
PROGRAM = """\
import abc
from typing import Any, Generic, TypeVar, assert_type

import shelf
from fairlead import serve
from fairlead.serve import Application, Deployment
from fairlead.serve.handle import DeploymentHandle
from shelf import Model

T = TypeVar("T")


@serve.deployment(num_replicas=2)
class Front(abc.ABC):
    def __init__(self, model: DeploymentHandle[Any]) -> None:
        self.model = model

    async def __call__(self, text: str) -> str:
        return text


@serve.deployment()
class Of(Generic[T]):
    pass


class Plain:
    size = 1


def main() -> None:
    @serve.deployment
    class Local:
        pass

    assert_type(Local.bind(), Application[Local])


assert_type(Model.bind(2), Application[Model])
assert_type(shelf.Model.options(num_replicas=2), Deployment[Model])
assert_type(Model.num_replicas, int)
assert_type(Of.bind(), Application[Of[Any]])
handle = serve.run(Front.options(name="front").bind(Model.bind()))
assert_type(handle, DeploymentHandle[Front])
assert_type(handle.remote("x").result(), str)
assert_type(Plain.size, int)
"""
WRONG = """\
from shelf import Model

Model.size
Model.bound()
"""
PLUGIN = '\nplugins = ["fairlead.mypy_plugin"]'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shelf.py").write_text(SHELF)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text(WRONG)
    return tmp_path


def mypy(folder: Path, settings: str, name: str) -> str:
    (folder / "pyproject.toml").write_text(f"[tool.mypy]\nstrict = true{settings}\n")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", name]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout


def test_with_the_plugin_a_decorated_class_has_the_types_of_its_deployment(folder: Path):
    assert mypy(folder, PLUGIN, "program.py") == ""
    (folder / "program.py").write_text(PROGRAM + "\n")  # what has not changed comes from the cache
    assert mypy(folder, PLUGIN, "program.py") == ""


def test_with_the_plugin_what_a_deployment_has_not_is_an_error(folder: Path):
    assert mypy(folder, PLUGIN, "wrong.py").splitlines() == [
        'wrong.py:3: error: "Deployment[Model]" has no attribute "size"  [attr-defined]',
        'wrong.py:4: error: "Deployment[Model]" has no attribute "bound"  [attr-defined]',
    ]


def test_without_the_plugin_it_is_the_class(folder: Path):
    assert 'error: "type[Model]" has no attribute "bind"  [attr-defined]' in mypy(folder, "", "program.py")
