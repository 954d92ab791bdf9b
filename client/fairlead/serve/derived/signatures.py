"""What a method of the user's takes and returns, by its signature and hints."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import typing
from typing import Any

from fairlead.serve.batching.decorator import Batched
from fairlead.serve.derived.errors import HintError
from fairlead.serve.derived.hints import STREAMS, spelled, without_none
from fairlead.serve.derived.lookup import hints_of

_CONTEXT = "grpc_context"
"""The parameter that gets the context of a gRPC call."""
_LATER = (collections.abc.Awaitable, collections.abc.Coroutine)
_WEB = ("starlette.", "fastapi.")


@dataclasses.dataclass(slots=True)
class Signature:
    """A method's parameters without ``self``, and its hints."""

    where: str
    parameters: list[inspect.Parameter]
    hints: dict[str, Any]
    function: Any
    batched: bool

    def place(self, parameter: str) -> str:
        """Where a parameter stands, for errors; empty: the result."""
        return f"{self.where}: parameter {parameter!r}" if parameter else f"{self.where}: its result"

    def hint(self, name: str) -> Any:
        """The hint of a parameter; of one item, where the method takes them in batches. Raises HintError."""
        if name not in self.hints:
            fix = "Write one, or begin the method's name with an underscore if callers need not know it"
            if self.function.__name__ == "__call__":
                fix = "Write one; starlette.requests.Request if the method answers HTTP requests"
            raise HintError(self.place(name), "it has no type hint", fix)
        return self._one(self.hints[name], self.place(name))

    def item(self, name: str) -> Any:
        """The hint of one item of a parameter that is a stream. Raises HintError."""
        return self._item(self.hint(name), self.place(name))

    def result(self) -> tuple[Any, bool]:
        """The hint of the result or of one of its items, and whether they are a stream. Raises HintError."""
        where = self.place("")
        if "return" not in self.hints:
            raise HintError(where, "it has no type hint", "Write one behind ->; None if there is nothing to return")
        hint = without_none_around(self.hints["return"])
        while (typing.get_origin(hint) or hint) in _LATER:
            hint = typing.get_args(hint)[-1] if typing.get_args(hint) else Any
        origin = _stream_of(hint)
        if origin is None:
            return self._one(hint, where), False
        is_generator = inspect.isgeneratorfunction(inspect.unwrap(self.function))
        if origin is collections.abc.Iterable and not is_generator:
            raise HintError(where, "an Iterable may be a list or a stream", "Write list[...] or Iterator[...]")
        return self._one(self._item(hint, where), where), True

    def _item(self, hint: Any, where: str) -> Any:
        if not typing.get_args(hint):
            raise HintError(where, f"{spelled(hint)} does not say what it yields", "Write AsyncIterator[float], say")
        return typing.get_args(hint)[0]

    def _one(self, hint: Any, where: str) -> Any:
        """What one caller gives or gets of a batch."""
        if not self.batched:
            return hint
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) not in (list, collections.abc.Sequence) or len(arguments) != 1:
            raise HintError(where, "a batched method takes and returns lists", "Write list[...]")
        return arguments[0]


def without_none_around(hint: Any) -> Any:
    """A hint without ``Annotated`` and its kin, ``None`` still in it."""
    inner, optional = without_none(hint)
    return hint if optional else inner


def signature_of(target: Any, name: str, function: Any) -> Signature:
    """The signature of a method of ``target``. Raises HintError for hints that cannot be looked up."""
    where = f"{target.__qualname__}.{name}" if isinstance(target, type) else target.__qualname__
    batched = isinstance(function, Batched)
    inner = function._definition.function if batched else function
    parameters = list(inspect.signature(inner).parameters.values())
    is_bound = inspect.ismethod(inner) or not isinstance(target, type)
    if not is_bound and not isinstance(inspect.getattr_static(target, name, None), staticmethod):
        parameters = parameters[1:]
    parameters = [each for each in parameters if each.name != _CONTEXT]
    hints = hints_of(inner, where)
    if not any(is_of_the_web(hints.get(each.name)) for each in parameters):
        _check_parameters(where, parameters)
    return Signature(where, parameters, hints, inner, batched)


def is_of_the_web(hint: Any) -> bool:
    """Whether a hint is a HTTP request or its like: the method is no part of the service then."""
    module = getattr(hint, "__module__", None)
    return isinstance(hint, type) and isinstance(module, str) and module.startswith(_WEB)


def stream_key_of(signature: Signature) -> str:
    """The parameter that iterates over the caller's messages; empty: none does. Raises HintError."""
    found = ""
    for position, parameter in enumerate(signature.parameters):
        where = signature.place(parameter.name)
        hint = signature.hints.get(parameter.name)
        if _stream_of(hint) is None:
            continue
        if position or parameter.kind is parameter.KEYWORD_ONLY or signature.batched:
            fix = "Move it to the front, or use list[...] for values that come together"
            raise HintError(where, f"{spelled(hint)} is a stream, which only the first parameter can be", fix)
        found = parameter.name
    return found


def _stream_of(hint: Any) -> Any:
    """The kind of stream that a hint means; None for other hints."""
    origin = typing.get_origin(hint) or hint
    return origin if origin in STREAMS else None


def _check_parameters(where: str, parameters: list[inspect.Parameter]) -> None:
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            there = f"{where}: parameter {each.name!r}"
            raise HintError(there, "it takes any number of arguments", "Take a list or a dict instead")
