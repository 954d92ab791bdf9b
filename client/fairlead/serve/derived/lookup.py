"""Hints as they are written to what they mean.

A class that travels by value loses the names that stand only in its hints: its functions take along what their code
uses. So what its hints mean is kept with it before it travels, and found here by who gets it.
"""

from __future__ import annotations

import contextvars
import inspect
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fairlead.serve.derived.errors import HintError

_KEPT = "__fairlead_hints__"
_Found = list[tuple[Any, dict[str, Any], dict[str, Any]]]
_collecting: contextvars.ContextVar[_Found | None] = contextvars.ContextVar("collecting", default=None)


def hints_of(target: Any, where: str) -> dict[str, Any]:
    """The hints of a function or class, looked up. Raises HintError for names that cannot be found."""
    owner = target.__func__ if inspect.ismethod(target) else target
    written = dict(vars(owner).get("__annotations__") or getattr(owner, "__annotations__", {}))
    kept = vars(owner).get(_KEPT)
    if kept is not None and kept[0] == written:
        found: dict[str, Any] = kept[1]
        return found
    hints = _looked_up(target, where)
    if (collecting := _collecting.get()) is not None:
        collecting.append((owner, written, hints))
    return hints


@contextmanager
def keeping_hints() -> Iterator[None]:
    """What is looked up meanwhile is kept with the function or class that it stands in, unless an error ends it."""
    found: _Found = []
    token = _collecting.set(found)
    try:
        yield
    finally:
        _collecting.reset(token)
    for owner, written, hints in found:
        setattr(owner, _KEPT, (written, hints))


def _looked_up(target: Any, where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise HintError(
            where,
            f"the name {error.name!r} in its hints cannot be looked up",
            "Import or define it in the module, outside of functions and `if TYPE_CHECKING`",
        ) from error
    except (TypeError, SyntaxError) as error:
        raise HintError(where, f"its hints cannot be read: {error}", "Correct them") from error
