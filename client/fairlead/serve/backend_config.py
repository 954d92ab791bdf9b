"""How a backend runs: ``BackendConfig``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Self

_DEFAULTS: dict[str, Any] = {
    "num_replicas": 1,
    "max_batch_size": None,
    "batch_wait_timeout": 0.0,
    "max_concurrent_queries": None,
    "user_config": None,
    "experimental_graceful_shutdown_wait_loop_s": 2.0,
    "experimental_graceful_shutdown_timeout_s": 20.0,
}
_QUERIES = "max_concurrent_queries"
_BLOCKING_QUERIES = 8
_ASYNC_QUERIES = 100


class ConfigError(ValueError):
    """A value that a configuration cannot have, or a name that it does not know."""


class BackendConfig:
    """How a backend runs. Fields are checked when they are set; only those that were set count in an update."""

    num_replicas: int
    """How many replicas."""
    max_batch_size: int | None
    """How many requests a batch has at most, for handlers that accept batches; None: 1."""
    batch_wait_timeout: float
    """Seconds that a batch waits to become full."""
    max_concurrent_queries: int | None
    """How many requests a replica runs at once. If it is not set, or set to None, what :func:`_queries` says of the
    other fields as they are then; None: 8."""
    user_config: Any
    """For the class's ``reconfigure``."""
    experimental_graceful_shutdown_wait_loop_s: float
    """Kept for compatibility: drains wake on completion."""
    experimental_graceful_shutdown_timeout_s: float
    """Seconds that a replica may take to drain before it is killed."""

    def __init__(self, **given: Any) -> None:
        """Raises ConfigError, a ValueError, for unknown names and for values that cannot be."""
        fields = dict(_DEFAULTS)
        self.__dict__.update(_fields=fields, _given=dict.fromkeys(given))
        for name in sorted(given, key=lambda name: name == _QUERIES):  # this one goes by the others
            setattr(self, name, given[name])
        if _QUERIES not in given:
            fields[_QUERIES] = _queries(fields, asynchronous=False)

    @classmethod
    def of(cls, given: Any, *, asynchronous: bool = False) -> Self:
        """A user's BackendConfig or dictionary, or None. Raises TypeError for anything else, ConfigError as above.

        ``asynchronous``: whether it is for a coroutine function. A BackendConfig was made without knowing: it keeps its
        ``max_concurrent_queries``.
        """
        if isinstance(given, cls):
            return cls.restored(given.given(), given.max_concurrent_queries)
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"config must be a BackendConfig or a dictionary, not {type(given).__name__}")
        made = cls(**(given or {}))
        if asynchronous and (given or {}).get(_QUERIES) is None:
            made.__dict__["_fields"][_QUERIES] = _queries(made.values(), asynchronous=True)
        return made

    @classmethod
    def restored(cls, given: Mapping[str, Any], max_concurrent_queries: int | None) -> Self:
        """The one of which these fields were set, and that says so many queries."""
        made = cls(**given)
        made.__dict__["_fields"][_QUERIES] = max_concurrent_queries
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _DEFAULTS:
            raise ConfigError(f"BackendConfig has no {name!r}; there are {', '.join(_DEFAULTS)}")
        fields, given = self.__dict__["_fields"], self.__dict__["_given"]
        checked = _checked(name, value)
        if name == _QUERIES and checked is None:
            checked = _queries(fields, asynchronous=False)
        fields[name] = checked
        given[name] = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _DEFAULTS:
            raise AttributeError(name)
        return self.__dict__["_fields"][name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BackendConfig) and self.values() == other.values()

    __hash__ = None  # type: ignore[assignment]  # its fields can be set

    def __repr__(self) -> str:
        return f"BackendConfig({', '.join(f'{name}={value!r}' for name, value in self.given().items())})"

    def given(self) -> dict[str, Any]:
        """The fields that were set, in the order in which they were."""
        return {name: self.__dict__["_fields"][name] for name in self.__dict__["_given"]}

    def values(self) -> dict[str, Any]:
        """All fields."""
        return dict(self.__dict__["_fields"])

    def updated(self, other: BackendConfig) -> BackendConfig:
        """A copy with the fields that were set in another one."""
        made = BackendConfig.of(self)
        for name, value in other.given().items():
            setattr(made, name, value)
        return made

    @property
    def concurrency(self) -> int:
        """How many requests a replica runs at once."""
        return self.max_concurrent_queries or _BLOCKING_QUERIES


def _queries(fields: Mapping[str, Any], *, asynchronous: bool) -> int | None:
    """Two batches, so that one gathers while the other runs, where batches are waited for; else 100 if asynchronous.

    Of what blocks and waits for no batch also two, or 8 if there are no batches; None if it waits without a batch size.
    """
    size: int | None = fields["max_batch_size"]
    wait: float = fields["batch_wait_timeout"]
    if size is not None and (wait > 0 or not asynchronous):
        return 2 * size
    if asynchronous:
        return _ASYNC_QUERIES
    return _BLOCKING_QUERIES if wait == 0 else None


def is_asynchronous(backend: Any) -> bool:
    """Whether a function, or a class's ``__call__``, is a coroutine function."""
    return inspect.iscoroutinefunction(getattr(backend, "__call__", None) if isinstance(backend, type) else backend)  # noqa: B004 - the class's own


def _checked(name: str, value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    number = whole or isinstance(value, float)
    if name == "num_replicas" and not (whole and value > 0):
        raise ConfigError(f"num_replicas must be an integer above 0, not {value!r}")
    if name in ("max_batch_size", _QUERIES) and value is not None and not (whole and value > 0):
        raise ConfigError(f"{name} must be None or an integer above 0, not {value!r}")
    if name == "batch_wait_timeout" and not (number and value >= 0):
        raise ConfigError(f"batch_wait_timeout must be a number of seconds, not {value!r}")
    if name.startswith("experimental_") and not (number and value >= 0):
        raise ConfigError(f"{name} must be a number of seconds, not {value!r}")
    return value
