"""Where each parameter of a routed method comes from. One plan, by which requests are described and bound."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from fairlead.serve.routes.declaration import Declaration, RoutedMethod
from fairlead.serve.routes.hints import Shape, is_request, items_of, sequence_of, shape_of


class Source(enum.Enum):
    """Where a parameter's value comes from."""

    PATH = "path"
    REQUEST = "request"
    """It is the Starlette request itself."""
    NAMED = "query"
    """The query, or a member of the body's JSON object."""
    STRUCTURED = "body"
    """The body, or a member of its JSON object."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One parameter of a method."""

    name: str
    source: Source
    hint: Any
    """``Any`` where there is none."""
    shape: Shape
    required: bool
    default: Any
    positional: bool
    """Whether it cannot be given by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The parameters of a method for one route."""

    parameters: tuple[Parameter, ...]
    whole: Parameter | None
    """The one that may be the whole body, not a member of it."""
    captured: dict[str, str]
    """What the path captures: the name of the built-in converter by the parameter's name; empty for a user's own."""
    handler: bool
    """Whether it is a request handler: the request is all that it takes, and it answers as ``__call__`` does."""
    returns: Any
    """The hint of the result; ``inspect.Signature.empty`` where there is none."""

    def of(self, *sources: Source) -> list[Parameter]:
        """The parameters from these sources."""
        return [parameter for parameter in self.parameters if parameter.source in sources]


def plan_of(method: RoutedMethod, declaration: Declaration) -> Plan:
    """The plan for one of a method's routes.

    Raises TypeError or ValueError, naming method and parameter, for parameters that cannot be bound, path parameters
    that the method does not take, and type hints that cannot be resolved.
    """
    hints = method.hints()
    captured = {each.name: each.converter.language for each in declaration.starlette_path().parameters}
    signature = list(inspect.signature(method.function).parameters.values())[1 if method.bound else 0 :]
    parameters = tuple(_parameter(method, each, hints, captured) for each in signature)
    requests = [parameter for parameter in parameters if parameter.source is Source.REQUEST]
    missing = sorted(captured.keys() - {parameter.name for parameter in parameters})
    if missing and not requests:
        raise ValueError(
            f"{method} takes no parameter {missing[0]!r}, which its route {declaration.path!r} captures; add it, or a "
            "parameter `request` to read it from request.path_params"
        )
    return Plan(
        parameters=parameters,
        whole=_whole(parameters),
        captured=captured,
        handler=len(parameters) == 1 and bool(requests),
        returns=_item(method, hints["return"]) if "return" in hints else inspect.Signature.empty,
    )


def _parameter(
    method: RoutedMethod, given: inspect.Parameter, hints: dict[str, Any], captured: Container[str]
) -> Parameter:
    if given.kind in (given.VAR_POSITIONAL, given.VAR_KEYWORD):
        raise TypeError(f"{method} has a route, so it cannot take {given}: each parameter is bound by its name")
    hint = hints.get(given.name, Any)
    annotated = given.name in hints
    if method.batched and annotated and not is_request(hint):
        hint = _item(method, hint)
    shape = shape_of(hint)
    if given.name in captured:
        source = Source.PATH
        if shape.structured or shape.many:
            raise TypeError(f"the parameter {given.name!r} of {method} comes from the path, and text cannot be {hint}")
    elif is_request(hint) or (given.name == "request" and not annotated):
        source = Source.REQUEST
    else:
        source = Source.STRUCTURED if shape.structured else Source.NAMED
    return Parameter(
        name=given.name,
        source=source,
        hint=hint,
        shape=shape,
        required=given.default is given.empty,
        default=given.default,
        positional=given.kind is given.POSITIONAL_ONLY,
    )


def _item(method: RoutedMethod, hint: Any) -> Any:
    """What one call of a batched method gives or gets, by the hint of the list."""
    sequence = sequence_of(hint) if method.batched else None
    return hint if sequence is None else items_of(sequence)[0]


def _whole(parameters: tuple[Parameter, ...]) -> Parameter | None:
    """The only structured one; without any, the only one that is a list, or the only one at all."""
    structured = [parameter for parameter in parameters if parameter.source is Source.STRUCTURED]
    if structured:
        return structured[0] if len(structured) == 1 else None
    named = [parameter for parameter in parameters if parameter.source is Source.NAMED]
    lists = [parameter for parameter in named if parameter.shape.many]
    for candidates in (lists, named):
        if len(candidates) == 1:
            return candidates[0]
    return None
