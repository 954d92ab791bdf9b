"""How programs of an instance log: text or JSON, each line with its request, application, deployment and replica.

The loggers ``fairlead``, ``ray.serve`` (for code that was written for Ray Serve) and those below them are set up; the
root logger is the user's.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import orjson

from fairlead.serve.context import current_request_context

ACCESS_LOG = "fairlead.access"
"""The logger of requests."""
_LOGGERS = ("fairlead", "fairlead_gateway", "fairlead_replica", "ray.serve")
_FILE_BYTES = 16 * 1024 * 1024
_FILES = 5

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """How a deployment, an application or an instance logs. The names and defaults are Ray Serve's."""

    encoding: str = "TEXT"
    """``TEXT`` or ``JSON``: one object a line."""
    log_level: int | str = "INFO"
    """The least level that is written, by name or number."""
    logs_dir: str | None = None
    """A directory for a file of each process, beside its output; None: output only."""
    enable_access_log: bool = True
    """Whether each request is logged, with its route, status and latency."""
    additional_log_standard_attrs: Sequence[str] = ()
    """Further attributes of ``logging.LogRecord`` to write, for example ``name`` or ``lineno``."""

    def __post_init__(self) -> None:
        if self.encoding not in ("TEXT", "JSON"):
            raise ValueError(f"encoding must be TEXT or JSON, not {self.encoding!r}")
        self.level_number()
        unknown = sorted(set(self.additional_log_standard_attrs) - _STANDARD)
        if unknown:
            raise ValueError(f"{unknown} are no attributes of log records; there are {sorted(_STANDARD)}")

    @classmethod
    def of(cls, given: LoggingConfig | Mapping[str, Any] | None) -> LoggingConfig | None:
        """What a user gave. Raises TypeError for another kind of object or unknown names, ValueError for bad values."""
        if given is None or isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            raise TypeError(f"logging_config is a LoggingConfig or a dictionary, not {type(given).__name__}")
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise TypeError(f"logging_config has no {unknown}; there are {names}")
        return cls(**given)

    def level_number(self) -> int:
        """The level as a number. Raises ValueError for an unknown name."""
        if isinstance(self.log_level, int):
            return self.log_level
        number = logging.getLevelNamesMapping().get(str(self.log_level).upper())
        if number is None:
            raise ValueError(f"there is no log level {self.log_level!r}")
        return number

    def to_json(self) -> bytes:
        """For another process."""
        return orjson.dumps({**dataclasses.asdict(self), "additional_log_standard_attrs": self._attributes()})

    @classmethod
    def from_json(cls, data: bytes | str) -> LoggingConfig:
        """The reverse."""
        return cls(**orjson.loads(data))

    def _attributes(self) -> list[str]:
        return list(self.additional_log_standard_attrs)


class _Formatter(logging.Formatter):
    """Adds what is known of the process and the request."""

    def __init__(self, labels: Mapping[str, str], attributes: Sequence[str]) -> None:
        super().__init__()
        self._labels = dict(labels)
        self._attributes = tuple(attributes)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """All that is written beside time, level and message."""
        found: dict[str, Any] = dict(self._labels)
        request = current_request_context()
        if request is not None:
            found["request_id"] = request.request_id
            found["route"] = request.route
        found |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        found |= {name: getattr(record, name) for name in self._attributes if hasattr(record, name)}
        return {name: value for name, value in found.items() if value not in ("", None)}


class TextFormatter(_Formatter):
    """``LEVEL time component component_id request_id -- message``, as Ray Serve."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        fields = self.fields(record)
        parts = [record.levelname, self.formatTime(record)]
        parts += [str(fields[name]) for name in ("component", "replica", "gateway", "request_id") if name in fields]
        parts += [f"{name}={fields[name]}" for name in self._attributes if name in fields]
        record.message = record.getMessage()
        text = f"{' '.join(parts)} -- {record.message}"
        for more in (self._trace(record), record.stack_info):
            if more:
                text = f"{text}\n{more}"
        return text

    def _trace(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line: dict[str, Any] = {
            "levelname": record.levelname,
            "asctime": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(),
            "message": record.getMessage(),
            **self.fields(record),
        }
        if record.exc_info:
            line["exc_text"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def set_up(config: LoggingConfig | None, labels: Mapping[str, str], name: str) -> None:
    """Sets up this process's loggers; a second time in the place of the first.

    ``config`` None: text, without access log. ``labels``: what each line says of the process. ``name``: of the file in
    ``logs_dir``. Raises OSError if that cannot be written.
    """
    settings = config or LoggingConfig(enable_access_log=False)
    kind = JsonFormatter if settings.encoding == "JSON" else TextFormatter
    formatter = kind(labels, settings.additional_log_standard_attrs)
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if settings.logs_dir:
        directory = Path(settings.logs_dir)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name.replace('#', '_').replace(os.sep, '_')}.log"
        handlers.append(RotatingFileHandler(path, maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(formatter)
    for each in _LOGGERS:
        logger = logging.getLogger(each)
        for old in logger.handlers[:]:
            logger.removeHandler(old)
            old.close()
        for handler in handlers:
            logger.addHandler(handler)
        logger.setLevel(settings.level_number())
        logger.propagate = False
    logging.getLogger(ACCESS_LOG).disabled = not settings.enable_access_log
