"""Starting an instance by the classic arguments."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead import serve
from fairlead.serve.classic import client


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The ``http_options`` that instances were started with; none is."""
    options: list[Any] = []
    monkeypatch.setattr(
        client.api, "start", lambda location, http_options, *others, **named: options.append(http_options)
    )
    monkeypatch.setattr(client.api, "existing_instance", lambda: None)
    return options


OLD = [("http_host", "127.0.0.1", "host"), ("http_port", 8000, "port"), ("http_middlewares", [], "middlewares")]


@pytest.mark.parametrize(("argument", "default", "option"), OLD)
def test_a_deprecated_argument_warns_even_as_the_default(
    argument: str, default: Any, option: str, started: list[Any]
) -> None:
    with pytest.warns(DeprecationWarning, match="use http_options"):
        serve.start(**{argument: default})
    assert started == [{option: default}]


@pytest.mark.parametrize(("argument", "default", "option"), OLD)
def test_a_deprecated_argument_beside_http_options_is_refused(
    argument: str, default: Any, option: str, started: list[Any]
) -> None:
    with pytest.raises(ValueError, match="together with http_options"):
        serve.start(http_options={}, **{argument: default})
    assert not started


def test_an_option_that_there_is_not_is_named() -> None:
    with pytest.raises(TypeError, match="'prot'"):
        serve.HTTPOptions(prot=8000)  # type: ignore[call-arg]
