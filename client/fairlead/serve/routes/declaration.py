"""``@serve.route``, and finding again what it declared: in the driver, which describes it, and in the replica."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar, get_type_hints

from fairlead.paths import BUILTIN, Converter, Route, StarlettePath, UnknownConverterError
from fairlead.serve.batching.decorator import Batched

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__fairlead_routes__"
_STARLETTE = "starlette.convertors"


@dataclass(kw_only=True, slots=True)
class Declaration:
    """One ``@serve.route``. Travels with the function that it stands on."""

    path: str
    methods: tuple[str, ...]
    """Upper case, in order, at least one."""
    converters: dict[str, Any] = field(default_factory=dict)
    """The user's own Starlette convertors that the path names."""
    hints: dict[str, Any] | None = None
    """The function's type hints, where they could be resolved: another process may lack the names that they need."""

    def starlette_path(self) -> StarlettePath:
        """The path, parsed; converters make values of what it captures."""
        own = {
            name: Converter(regex=convertor.regex, convert=convertor.convert)
            for name, convertor in self.converters.items()
        }
        return StarlettePath(self.path, {**BUILTIN, **own})


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutedMethod:
    """A method, or a function, that has routes."""

    name: str
    owner: str
    """The class's name; of a function its own."""
    function: Callable[..., Any]
    """As it was written, below all decorators that say what they wrap."""
    declarations: tuple[Declaration, ...]
    batched: bool
    """Whether ``@serve.batch`` gives it lists of what each call gives."""
    bound: bool
    """Whether its first parameter is its object or class."""

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}" if self.owner != self.name else self.name

    def hints(self) -> dict[str, Any]:
        """The type hints. Raises TypeError that names the method if they mention what is not defined."""
        known = next((each.hints for each in self.declarations if each.hints is not None), None)
        if known is not None:
            return known
        try:
            hints = get_type_hints(self.function, include_extras=True)
        except Exception as error:  # whatever evaluating the user's annotations raises
            raise TypeError(
                f"the type hints of {self} cannot be resolved, as @serve.route needs: {type(error).__name__}: {error}"
            ) from error
        for declaration in self.declarations:
            declaration.hints = hints
        return hints


def route(path: str, methods: Iterable[str] | None = None) -> Callable[[F], F]:
    """Binds a method, or a function deployment, to a HTTP path below the application's route prefix.

    ``path``: as in Starlette, ``/users/{user_id:int}``; converters are str, int, float, path, uuid, and those that are
    registered with ``starlette.convertors.register_url_convertor`` by now. ``methods``: ``["GET"]`` by default; GET
    answers HEAD.
    May stand on a method several times, above or below ``@serve.batch``.

    Parameters are bound by their names to the path, the query and the JSON body, and converted by their type hints.
    Raises ValueError for a path that cannot be (its unknown converters also as AssertionError, as in Starlette).
    """
    if not isinstance(path, str):
        raise TypeError(f"@serve.route takes a path, as in @serve.route('/users'), not {type(path).__name__}")
    if isinstance(methods, str):
        raise TypeError(f"methods is a list of HTTP methods, like [{methods!r}], not a string")
    own = own_convertors(path)
    names = tuple(dict.fromkeys(method.upper() for method in (("GET",) if methods is None else methods)))
    declared = Declaration(path=path, methods=names, converters=own)
    Route(declared.starlette_path(), names, None)  # raises for what is no path or no method

    def decorate(function: F) -> F:
        target = _innermost(function)
        if not inspect.isfunction(target):
            raise TypeError(f"@serve.route stands on a function or a method, not on {function!r}")
        hints = _hints_now(target, sys._getframe(1))
        declaration = Declaration(path=path, methods=names, converters=own, hints=hints)
        others: tuple[Declaration, ...] = target.__dict__.get(_ATTRIBUTE, ())
        target.__dict__[_ATTRIBUTE] = (declaration, *others)
        return function

    return decorate


def routed_methods(func_or_class: Any) -> Iterator[RoutedMethod]:
    """The methods of a class that have routes, those of its bases first, in the order they were written; or a function.

    A method that a subclass overrides has the routes that stand on the override.
    """
    if not isinstance(func_or_class, type):
        found = _routed(func_or_class, getattr(func_or_class, "__name__", ""), "", is_method=False)
        if found is not None:
            yield found
        return
    names = dict.fromkeys(name for base in reversed(func_or_class.__mro__) for name in vars(base))
    for name in names:
        found = _routed(inspect.getattr_static(func_or_class, name, None), name, func_or_class.__qualname__)
        if found is not None:
            yield found


def routed_method(target: Any, name: str) -> RoutedMethod | None:
    """The method ``name`` of an object, or a function, if it has routes."""
    if inspect.isroutine(target) or isinstance(target, Batched):
        return _routed(target, getattr(target, "__name__", name), "", is_method=False)
    return _routed(inspect.getattr_static(type(target), name, None), name, type(target).__qualname__)


def _routed(found: Any, name: str, owner: str, *, is_method: bool = True) -> RoutedMethod | None:
    bound = is_method and not isinstance(found, staticmethod)
    function = _innermost(found)
    declarations = getattr(function, _ATTRIBUTE, None) if inspect.isfunction(function) else None
    if not declarations:
        return None
    return RoutedMethod(
        name=name,
        owner=owner.rpartition("<locals>.")[2] or name,
        function=function,
        declarations=declarations,
        batched=_is_batched(found),
        bound=bound,
    )


def _innermost(found: Any) -> Any:
    """The function below class and static methods and decorators."""
    while True:
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
        elif (wrapped := getattr(found, "__wrapped__", None)) is not None:
            found = wrapped
        else:
            return found


def _is_batched(found: Any) -> bool:
    while found is not None and not isinstance(found, Batched):
        found = found.__func__ if isinstance(found, staticmethod | classmethod) else getattr(found, "__wrapped__", None)
    return found is not None


def _hints_now(function: Callable[..., Any], frame: FrameType) -> dict[str, Any] | None:
    """The type hints, unless they mention what is defined later, like the class itself.

    ``frame``: where the decorator stands. Hints may be text that names what is local there, or in the function around.
    """
    outer = frame.f_back.f_locals if frame.f_back is not None else {}
    for names in (None, {**outer, **frame.f_locals}):
        with contextlib.suppress(Exception):  # evaluating the user's annotations may raise anything
            return get_type_hints(function, localns=names, include_extras=True)
    return None


def registered_convertors() -> dict[str, Any]:
    """The user's own Starlette convertors by name; a built-in name may have been taken over."""
    starlette = sys.modules.get(_STARLETTE)  # not imported: nobody can have registered any
    registered = dict(starlette.CONVERTOR_TYPES) if starlette is not None else {}
    return {name: each for name, each in registered.items() if type(each).__module__ != _STARLETTE}


def own_convertors(path: str) -> dict[str, Any]:
    """Those of them that a path names. Raises PatternError for what is no path."""
    registered = registered_convertors()
    own = {name: Converter(regex=".", convert=str) for name in registered}
    try:
        parsed = StarlettePath(path, {**BUILTIN, **own})
    except UnknownConverterError as error:
        raise UnknownConverterError(
            error.pattern, f"{error.problem}; register others with starlette.convertors.register_url_convertor before"
        ) from None
    used = [parameter.converter for parameter in parsed.parameters]
    return {name: registered[name] for name, each in own.items() if any(each is one for one in used)}
