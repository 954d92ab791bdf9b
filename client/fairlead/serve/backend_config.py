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
    """How many requests a replica runs at once; None: by the kind of the backend, see :meth:`concurrency`."""
    user_config: Any
    """For the class's ``reconfigure``."""
    experimental_graceful_shutdown_wait_loop_s: float
    """Kept for compatibility: drains wake on completion."""
    experimental_graceful_shutdown_timeout_s: float
    """Seconds that a replica may take to drain before it is killed."""

    def __init__(self, **given: Any) -> None:
        """Raises ConfigError, a ValueError, for unknown names and for values that cannot be."""
        object.__setattr__(self, "_given", {})
        for name, value in given.items():
            setattr(self, name, value)

    @classmethod
    def of(cls, given: Any) -> Self:
        """A user's BackendConfig or dictionary, or None. Raises TypeError for anything else, ConfigError as above."""
        if given is None:
            return cls()
        if isinstance(given, cls):
            return cls(**given.given())
        if isinstance(given, Mapping):
            return cls(**given)
        raise TypeError(f"config must be a BackendConfig or a dictionary, not {type(given).__name__}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _DEFAULTS:
            raise ConfigError(f"BackendConfig has no {name!r}; there are {', '.join(_DEFAULTS)}")
        self.given_fields()[name] = _checked(name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _DEFAULTS:
            raise AttributeError(name)
        return self.given_fields().get(name, _DEFAULTS[name])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BackendConfig) and self.values() == other.values()

    __hash__ = None  # type: ignore[assignment]  # its fields can be set

    def __repr__(self) -> str:
        return f"BackendConfig({', '.join(f'{name}={value!r}' for name, value in self.given().items())})"

    def given_fields(self) -> dict[str, Any]:
        """The fields that were set, as they are kept."""
        fields: dict[str, Any] = self.__dict__["_given"]
        return fields

    def given(self) -> dict[str, Any]:
        """The fields that were set."""
        return dict(self.given_fields())

    def values(self) -> dict[str, Any]:
        """All fields."""
        return {**_DEFAULTS, **self.given_fields()}

    def updated(self, other: BackendConfig) -> BackendConfig:
        """A copy with the fields that were set in another one."""
        return BackendConfig(**{**self.given(), **other.given()})

    def concurrency(self, *, asynchronous: bool) -> int:
        """How many requests a replica runs at once: two batches, else 100 if it is asynchronous, else 8."""
        if self.max_concurrent_queries is not None:
            return self.max_concurrent_queries
        if self.max_batch_size is not None and (self.batch_wait_timeout > 0 or not asynchronous):
            return 2 * self.max_batch_size
        return max(_ASYNC_QUERIES if asynchronous else _BLOCKING_QUERIES, 2 * (self.max_batch_size or 1))


def is_asynchronous(backend: Any) -> bool:
    """Whether a function, or a class's ``__call__``, is a coroutine function."""
    return inspect.iscoroutinefunction(getattr(backend, "__call__", None) if isinstance(backend, type) else backend)  # noqa: B004 - the class's own


def _checked(name: str, value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    number = whole or isinstance(value, float)
    if name == "num_replicas" and not (whole and value > 0):
        raise ConfigError(f"num_replicas must be an integer above 0, not {value!r}")
    if name in ("max_batch_size", "max_concurrent_queries") and value is not None and not (whole and value > 0):
        raise ConfigError(f"{name} must be None or an integer above 0, not {value!r}")
    if name == "batch_wait_timeout" and not (number and value >= 0):
        raise ConfigError(f"batch_wait_timeout must be a number of seconds, not {value!r}")
    if name.startswith("experimental_") and not (number and value >= 0):
        raise ConfigError(f"{name} must be a number of seconds, not {value!r}")
    return value
