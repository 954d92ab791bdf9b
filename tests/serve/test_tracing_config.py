"""``TracingConfig``: what it takes, and how it reaches an instance's programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve import tracing
from fairlead.serve.doors import Doors
from fairlead.serve.tracing_config import TracingConfig
from fairlead.variables import TRACING


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"sampling_ratio": 1.5}, ValueError, "at most 1"),
        ({"sampling_ratio": -1}, ValueError, "sampling_ratio"),
        ({"enabled": "yes"}, TypeError, "enabled"),
        ({"exporter_import_path": "nothing"}, ValueError, r"must be 'package\.module:function'"),
        ({"exporter_import_path": 5}, TypeError, "exporter_import_path"),
        ({"exporter_import_path": "no_such_module:f"}, ValueError, "cannot be imported: ModuleNotFoundError"),
        ({"exporter_import_path": "os:no_such_name"}, ValueError, "cannot be imported: AttributeError"),
        ({"exporter_import_path": "os.sep"}, ValueError, "is no function"),
        ({"ratio": 1}, ValueError, "no 'ratio'"),
        (5, TypeError, "TracingConfig"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_started(given: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        serve.start(tracing_config=given)


def test_it_reaches_the_controller_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    given = TracingConfig.given({"exporter_import_path": "os.path:join", "sampling_ratio": 0.5})
    arguments = Doors(tracing=given).arguments()
    text = arguments[arguments.index("--tracing") + 1]
    assert arguments.index("--tracing") < arguments.index("--")
    monkeypatch.setattr(sys, "path", ["/usr/lib"])
    assert TracingConfig.from_json(text) == given
    assert sys.path[:2] == ["/usr/lib", str(tmp_path)]
    assert "--tracing" not in Doors().arguments()
    assert TracingConfig.given(None) is None


def test_disabled_it_overrules_the_variables() -> None:
    environment = {TRACING: TracingConfig(enabled=False).to_json(), "OTEL_TRACES_EXPORTER": "console"}
    assert not tracing.set_up(environment, "service")


def test_where_opentelemetry_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'fairlead\[tracing\]'"):
        TracingConfig.given({})
    assert TracingConfig.given({"enabled": False}) == TracingConfig(enabled=False)
