"""Log lines: text and JSON, what they say of process and request, and where they go."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.serve import logs
from fairlead.serve.context import RequestContext, set_request_context
from fairlead.serve.logs import JsonFormatter, LoggingConfig, TextFormatter, set_up
from fairlead.v1 import session_pb2

LABELS = {"component": "replica", "application": "app", "deployment": "Echo", "replica": "app#Echo#x"}


@pytest.fixture
def request_context() -> Iterator[None]:
    header = session_pb2.CallHeader(request_id="r-1", route="/api")
    set_request_context(RequestContext(header, app_name="app"))
    yield
    set_request_context(None)


@pytest.fixture
def loggers() -> Iterator[None]:
    kept = [(logging.getLogger(name), vars(logging.getLogger(name)).copy()) for name in logs._LOGGERS]
    access = logging.getLogger(logs.ACCESS_LOG)
    disabled = access.disabled
    yield
    access.disabled = disabled
    for logger, before in kept:
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        for handler in before["handlers"]:
            logger.addHandler(handler)
        logger.setLevel(before["level"])
        logger.propagate = before["propagate"]


def record(message: str = "hello %s", *args: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("ray.serve", logging.WARNING, "app.py", 7, message, args, None)
    vars(made).update(fields)
    return made


def test_text(request_context: None):
    line = TextFormatter(LABELS, ()).format(record("hello %s", "you"))
    assert line.startswith("WARNING ")
    assert line.endswith(" replica app#Echo#x r-1 -- hello you")


def test_json(request_context: None):
    line = json.loads(JsonFormatter(LABELS, ("lineno",)).format(record("hello %s", "you", colour="blue")))
    assert line.pop("asctime").endswith("+00:00")
    assert line == {
        **LABELS,
        "levelname": "WARNING",
        "message": "hello you",
        "request_id": "r-1",
        "route": "/api",
        "colour": "blue",
        "lineno": 7,
    }


def test_without_a_request_nothing_is_said_of_one():
    assert "request_id" not in json.loads(JsonFormatter(LABELS, ()).format(record("x")))


@pytest.mark.parametrize("kind", [TextFormatter, JsonFormatter])
def test_exceptions_and_anything_as_an_extra(kind: type[logging.Formatter]):
    try:
        raise KeyError("no")
    except KeyError as error:
        made = record("bad", odd={1: object()}, many={3})
        made.exc_info = (KeyError, error, error.__traceback__)
    line = kind(LABELS, ()).format(made)  # type: ignore[call-arg]
    assert "KeyError" in line
    assert "Traceback" in line


def test_a_json_line_is_one_line():
    assert "\n" not in JsonFormatter(LABELS, ()).format(record("a\nb"))


def test_the_level_the_file_and_the_access_log(loggers: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = LoggingConfig(encoding="JSON", log_level="warning", logs_dir=str(tmp_path / "logs"))
    for _ in range(2):  # the second time takes the place of the first
        set_up(config, LABELS, "app#Echo#x")
    logging.getLogger("ray.serve").info("too little")
    logging.getLogger("fairlead.serve").warning("enough")
    (file,) = (tmp_path / "logs").iterdir()
    assert file.name == "app_Echo_x.log"
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["message"] == "enough"
    assert capsys.readouterr().err.splitlines() == [line]
    assert not logging.getLogger(logs.ACCESS_LOG).disabled
    set_up(None, LABELS, "app#Echo#x")
    assert logging.getLogger(logs.ACCESS_LOG).disabled


def test_it_travels_as_json():
    config = LoggingConfig(encoding="JSON", log_level=10, additional_log_standard_attrs=["lineno"])
    assert LoggingConfig.from_json(config.to_json()) == config
    assert (
        LoggingConfig.of({"encoding": "JSON", "log_level": 10, "additional_log_standard_attrs": ["lineno"]}) == config
    )
    assert LoggingConfig.of(None) is None
    assert LoggingConfig.of(config) is config


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"encoding": "XML"}, ValueError, "TEXT or JSON"),
        ({"log_level": "LOUD"}, ValueError, "no log level 'LOUD'"),
        ({"additional_log_standard_attrs": ["shoe_size"]}, ValueError, "shoe_size"),
        ({"encodign": "JSON"}, TypeError, "encodign"),
        ("JSON", TypeError, "not str"),
    ],
)
def test_what_makes_no_sense(given: object, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        LoggingConfig.of(given)  # type: ignore[arg-type]
