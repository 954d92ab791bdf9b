"""Programs that are forked are programs."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from tests.typist import Typist


def show() -> None:
    print(sys.argv, os.environ, Path.cwd(), sys.modules["__main__"].__dict__.get("Typist"))
    sys.exit("done")


def hang() -> None:
    threading.Event().wait()


def test_each_has_arguments_an_environment_a_folder_output_and_a_status(typist: Typist, tmp_path: Path) -> None:
    done = typist.run("tests.test_typist:show", "show", "me", env={"A": "b"}, cwd=tmp_path)
    assert done.stdout == f"['show', 'me'] environ({{'A': 'b'}}) {tmp_path} None\n"
    assert (done.stderr, done.returncode) == ("done\n", 1)


def test_one_that_is_given_up_is_ended_and_the_next_one_runs() -> None:
    typist = Typist()
    typist.run("tests.test_typist:show", env={})
    typist._socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        typist.run("tests.test_typist:hang", env={})
    assert typist.run("tests.test_typist:show", env={}).stderr == "done\n"
    typist.close()
