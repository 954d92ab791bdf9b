"""The arguments of single calls as rows, and those of a batch as columns: a list for each parameter."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Sequence
from inspect import Parameter
from typing import Any

Row = tuple[Any, ...]
"""A value or ``Missing`` for each named parameter; for functions with ``*args`` or ``**kwargs``, those two behind."""


class Missing(enum.Enum):
    """The place of an argument that a caller left to its default."""

    VALUE = 0


_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Parameters:
    """The parameters of a batched function, or of a method without its first one."""

    def __init__(self, function: Callable[..., Any], *, is_method: bool) -> None:
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        if is_method and parameters and parameters[0].kind in _BY_POSITION:
            del parameters[0]
        self._signature = signature.replace(parameters=parameters)
        self._named = [one for one in parameters if one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
        positional = [one for one in self._named if one.kind in _BY_POSITION]
        self.is_open = len(self._named) < len(parameters)
        """Whether it has ``*args`` or ``**kwargs``: its rows may differ in shape."""
        required = [one for one in self._named if one.default is Parameter.empty]
        simple = not self.is_open and all(one.kind in _BY_POSITION for one in required)
        self._positional = len(positional)
        self._enough = len(required) if simple else self._positional + 1
        """How many arguments by position, and none by name, need no closer look."""
        self._plain = simple and len(required) == len(parameters)
        """Whether all its rows are complete, and their values go by position."""
        self._padding = (Missing.VALUE,) * len(self._named)

    def row(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Row:
        """One caller's arguments. Raises TypeError where the function would."""
        given = len(args)
        if not kwargs and self._enough <= given <= self._positional:
            return args if given == len(self._named) else args + self._padding[given:]
        bound = self._signature.bind(*args, **kwargs)
        row = tuple(bound.arguments.get(one.name, Missing.VALUE) for one in self._named)
        if not self.is_open:
            return row
        taken = {one.name for one in self._named}
        others = {name: value for name, value in bound.kwargs.items() if name not in taken}
        return (*row, bound.args[self._positional :], others)

    def shape(self, row: Row) -> Any:
        """Rows of the same shape, and only those, can be in one batch."""
        return (len(row[-2]), tuple(sorted(row[-1]))) if self.is_open else None

    def first(self, row: Row) -> Any:
        """The first argument: what a size function sees of a call."""
        if not self._named:
            return row[0][0] if self.is_open and row[0] else None
        return self._named[0].default if row[0] is Missing.VALUE else row[0]

    def columns(self, rows: Sequence[Row]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of the call for a batch.

        A parameter that no caller gave is left to its default; where only some did, the default fills the gaps.
        """
        if self._plain:
            return list(map(list, zip(*rows, strict=True))), {}
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for index, parameter in enumerate(self._named):
            column = [row[index] for row in rows]
            if any(value is Missing.VALUE for value in column):
                if all(value is Missing.VALUE for value in column):
                    continue
                column = [parameter.default if value is Missing.VALUE else value for value in column]
            if len(args) == index and parameter.kind in _BY_POSITION:
                args.append(column)
            else:
                kwargs[parameter.name] = column
        if self.is_open:
            args.extend(map(list, zip(*(row[-2] for row in rows), strict=True)))
            for name in rows[0][-1]:
                kwargs[name] = [row[-1][name] for row in rows]
        return args, kwargs
