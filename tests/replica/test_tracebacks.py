"""Which lines of a traceback users get to see."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from fairlead import serve
from fairlead.serve.exceptions import RayServeException
from fairlead.serve.options import HandleOptions
from fairlead_replica.assignment import resolve
from fairlead_replica.tracebacks import one_line, user_traceback


def shown(error: BaseException) -> list[str]:
    """The lines that a user sees of what was caught here, without the marks below them."""
    trace = error.__traceback__
    assert trace is not None
    inner = error.with_traceback(trace.tb_next)  # the test stands where the host does
    return [line.strip() for line in user_traceback(inner).splitlines() if line.strip(" ^~")]


def test_what_a_module_raises_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lacks_a_package.py").write_text("import no_such_package\n")
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError) as raised:
        resolve("lacks_a_package:Model")
    assert "lacks_a_package" not in sys.modules
    assert shown(raised.value) == [
        "Traceback (most recent call last):",
        f'File "{tmp_path / "lacks_a_package.py"}", line 1, in <module>',
        "import no_such_package",
        "ModuleNotFoundError: No module named 'no_such_package'",
    ]


def test_of_the_librarys_own_errors_the_users_lines() -> None:
    def method() -> None:
        serve.get_replica_context()  # elsewhere

    with pytest.raises(RayServeException) as raised:
        method()
    lines = shown(raised.value)
    assert "serve.get_replica_context()  # elsewhere" in lines
    assert not any("context.py" in line for line in lines)


def test_of_other_errors_all_lines_from_the_users_on() -> None:
    def method() -> None:
        HandleOptions().update({"colour": "red"})

    with pytest.raises(TypeError) as raised:
        method()
    lines = shown(raised.value)
    assert 'HandleOptions().update({"colour": "red"})' in lines
    assert any("options.py" in line for line in lines)


class Mute(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


def test_errors_without_a_text() -> None:
    with pytest.raises(Mute) as raised:
        raise Mute
    assert "Mute" in user_traceback(raised.value)
    assert one_line(raised.value) == "Mute"
    assert one_line(ValueError("one\ntwo")) == "ValueError: one"
