"""The end of a model: its ``__del__`` is awaited, or its ``close``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from typing import Any


async def unload(model: Any) -> None:
    """Calls the model's ``__del__``, or ``close`` if it has none; raises what it raises.

    Either may be a coroutine function. One that is not runs in a thread, since it may block. ``__del__`` runs once:
    when Python deletes the model it finds one that does nothing.
    """
    kind = type(model)
    if hasattr(kind, "__del__"):
        destroy = functools.partial(kind.__del__, model)
        asynchronous = inspect.iscoroutinefunction(kind.__del__)
    elif not isinstance(model, type) and callable(close := getattr(model, "close", None)):
        destroy = functools.partial(close)
        asynchronous = inspect.iscoroutinefunction(close)
    else:
        return
    try:
        result = destroy() if asynchronous else await asyncio.to_thread(destroy)
        if inspect.isawaitable(result):
            await result
    finally:
        if hasattr(kind, "__del__"):
            with contextlib.suppress(TypeError, AttributeError):  # an extension type
                object.__setattr__(model, "__class__", spent(kind))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=256)
def spent(kind: type) -> type:
    """The same class, with a ``__del__`` that does nothing: for objects whose own has been called."""
    return type(kind)(kind.__name__, (kind,), {"__del__": _nothing, "__slots__": (), "__module__": kind.__module__})


def _nothing(model: Any) -> None:
    """Stands in for a ``__del__`` that has been called."""
