"""The environment of programs that are started here, by whichever launcher."""

from __future__ import annotations

import pytest

from fairlead_gateway.control import detached_launcher, local_launcher
from fairlead_gateway.control.allocation import VARIABLES, environment_of


def test_memory_is_kept_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    name, other = VARIABLES
    monkeypatch.setenv(name, "7")
    monkeypatch.delenv(other, raising=False)
    made = environment_of({"MINE": "1", "PYTHONUNBUFFERED": "0"})
    assert (made[name], made[other], made["MINE"], made["PYTHONUNBUFFERED"]) == ("7", VARIABLES[other], "1", "0")


@pytest.mark.parametrize("launcher", [local_launcher, detached_launcher])
def test_both_launchers_use_it(launcher: object) -> None:
    assert launcher.allocation.environment_of is environment_of  # type: ignore[attr-defined]
