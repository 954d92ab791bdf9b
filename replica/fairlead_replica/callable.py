"""The user's class instance or function, as something to call: what each method is, found out once.

A call then costs a dictionary look-up. Which names may be called is decided here, for every door.
"""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable
from typing import Any

from fairlead.serve.batching.decorator import BatchedStream
from fairlead.wire.errors import MethodNotFoundError
from fairlead_replica.asgi import AsgiApplication

DEFAULT_METHOD = "__call__"


class MethodKind(enum.Enum):
    """How a method is run."""

    SYNC = "sync"
    """In the thread pool. What it returns may still turn out to be a coroutine or a generator."""
    COROUTINE = "coroutine"
    """On the event loop."""
    GENERATOR = "generator"
    """Pulled in the thread pool."""
    ASYNC_GENERATOR = "async generator"
    """Pulled on the event loop."""


class Method:
    """One method of the user's, bound, with all that a call has to know of it."""

    __slots__ = ("call", "kind", "name", "takes_request")

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self.call = call
        self.kind = _kind_of(call)
        self.takes_request = _takes_positional(call)
        """Whether a HTTP handler wants the request, or nothing."""

    def __repr__(self) -> str:
        return f"<Method {self.name!r} {self.kind.value}>"

    def replaced(self, call: Callable[..., Any]) -> Method:
        """The same method with something around its call that changes nothing of what it is."""
        method = Method(self.name, call)
        method.kind = self.kind
        method.takes_request = self.takes_request
        return method


class UserCallable:
    """What a replica hosts. Its methods may be asked for on any thread."""

    def __init__(self, target: Any, *, is_function: bool | None = None) -> None:
        """Wraps an instance of the user's class, or a function, or with ``is_function`` anything that acts as one."""
        self.target = target
        self.is_function = inspect.isroutine(target) if is_function is None else is_function
        self.asgi: AsgiApplication | None = None
        """What answers HTTP in its place, if its class has an application for that."""
        self._methods: dict[str, Method] = {}
        self._function = Method(getattr(target, "__name__", DEFAULT_METHOD), target) if self.is_function else None

    def __repr__(self) -> str:
        return f"<UserCallable {self.target!r}>"

    def method(self, name: str) -> Method:
        """The method of that name; empty: ``__call__``. A function is meant by every name.

        Raises MethodNotFoundError that lists what there is. Names with two leading and trailing underscores other than
        ``__call__`` are no methods: callers must not get at ``__class__`` and its kind.
        """
        if self._function is not None:
            return self._function
        method = self._methods.get(name)
        if method is None:
            method = self._find(name or DEFAULT_METHOD)
            self._methods[name] = method
        return method

    def substitute(self, name: str, method: Method) -> None:
        """Has ``method`` called where the method of that name is asked for. Before the first call."""
        self._methods[name] = method

    def hook(self, name: str) -> Callable[..., Any] | None:
        """A method of the user's that the host itself calls, such as ``reconfigure``; None if there is none."""
        found = None if self.is_function else getattr(self.target, name, None)
        return found if callable(found) else None

    def _find(self, name: str) -> Method:
        if name == DEFAULT_METHOD:
            if callable(self.target):
                return Method(name, self.target.__call__)
        elif not _is_dunder(name) and callable(found := getattr(self.target, name, None)):
            return Method(name, found)
        raise MethodNotFoundError(
            f"Tried to call a method {name!r} that does not exist. Available methods: {self._available()}."
        )

    def _available(self) -> list[str]:
        return [name for name in dir(self.target) if not _is_dunder(name) and _is_method(self.target, name)]


def _is_method(target: Any, name: str) -> bool:
    try:
        return callable(getattr(target, name, None))
    except Exception:  # a property of the user's
        return False


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _kind_of(call: Callable[..., Any]) -> MethodKind:
    while isinstance(call, functools.partial):
        call = call.func
    if isinstance(call, BatchedStream):
        return MethodKind.ASYNC_GENERATOR
    candidates = [call]
    if not inspect.isroutine(call):  # an object: what counts is how its class defines the call
        candidates.append(type(call).__call__)
    for candidate in candidates:
        if inspect.iscoroutinefunction(candidate):
            return MethodKind.COROUTINE
        if inspect.isasyncgenfunction(candidate):
            return MethodKind.ASYNC_GENERATOR
        if inspect.isgeneratorfunction(candidate):
            return MethodKind.GENERATOR
    return MethodKind.SYNC


def _takes_positional(call: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # builtins without a signature
        return True
    return any(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL)
        for parameter in parameters
    )
