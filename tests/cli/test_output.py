"""What commands say while they wait."""

from __future__ import annotations

import threading

import pytest

from fairlead.cli import output


def test_a_wait_that_takes_long_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = threading.Event()
    monkeypatch.setattr(output, "say", lambda line: said.set())
    with output.said_if_long("waiting", after_s=0.0):
        assert said.wait(60)


def test_a_wait_that_takes_no_time_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with output.said_if_long("waiting"):
        pass
    assert capsys.readouterr().err == ""
