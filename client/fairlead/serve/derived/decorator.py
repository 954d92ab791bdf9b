"""``@serve.typed``: says that a class's hints are its contract, and how."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from fairlead.serve.deployment import Deployment

C = TypeVar("C")

_MARK = "__fairlead_typed__"


@dataclass(frozen=True, kw_only=True, slots=True)
class TypedOptions:
    """What ``@serve.typed`` was given."""

    enabled: bool = True
    package: str | None = None
    service: str | None = None
    lock: str | None = None


@overload
def typed(_func_or_class: C) -> C: ...
@overload
def typed(
    _func_or_class: None = None,
    *,
    enabled: bool = True,
    package: str | None = None,
    service: str | None = None,
    lock: str | None = None,
) -> functools.partial[Any]: ...
def typed(_func_or_class: Any = None, **given: Any) -> Any:
    """Says that the type hints of a class, or function, are its contract: a protobuf service is derived from them.

    An application's ingress deployment has one without this, if its hints can be mapped. With it a hint that cannot be
    mapped is an error where the application is bound, and other deployments of the application have theirs as well.

    ``package`` is the protobuf package and ``service`` the name; without them, after the class: ``digits.v1`` and
    ``DigitsService`` for ``Digits``. ``lock`` is the path of the lock file from the module's folder; without it
    ``fairlead.lock.json``. ``enabled=False``: no service is derived. Stands below ``@serve.deployment``, or above it.
    Raises TypeError for what is no class or function.
    """
    options = TypedOptions(**given)
    if _func_or_class is None:
        return functools.partial(_mark, options)
    return _mark(options, _func_or_class)


def options_of(func_or_class: Any) -> TypedOptions | None:
    """What ``@serve.typed`` was given for a class or function; None: it is not decorated."""
    found = getattr(func_or_class, _MARK, None)
    return found if isinstance(found, TypedOptions) else None


def _mark(options: TypedOptions, func_or_class: Any) -> Any:
    target = func_or_class.func_or_class if isinstance(func_or_class, Deployment) else func_or_class
    if not isinstance(target, type) and not inspect.isroutine(target):
        raise TypeError(f"@serve.typed is for classes and functions, not {type(target).__name__}")
    setattr(target, _MARK, options)
    return func_or_class
