"""Values of a request to what a parameter's type hint says, by pydantic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pydantic_core
from pydantic import TypeAdapter, ValidationError

from fairlead.serve.routes.hints import items_of, sequence_of
from fairlead.serve.routes.parameters import Parameter, Source
from fairlead_replica.routed.problems import BadRequestError, Problem, place


class Conversion:
    """Converts the values of one parameter. Any thread may use it.

    Every method raises BadRequestError with all problems, their places below ``where``.
    """

    def __init__(self, parameter: Parameter) -> None:
        hint = parameter.hint
        self._structured = parameter.source is Source.STRUCTURED
        self._any = hint is Any
        self._adapter: TypeAdapter[Any] = TypeAdapter(hint)
        self._items: list[TypeAdapter[Any]] = []
        if parameter.shape.many:
            self._items = [TypeAdapter(item) for item in items_of(sequence_of(hint))]

    def of_text(self, text: str, where: str) -> Any:
        """What a text of the path or the query stands for."""
        return text if self._any else _of_text(self._adapter, text, where)

    def of_texts(self, texts: Sequence[str], where: str) -> Any:
        """What the texts of a repeated query parameter stand for."""
        if not self._items:
            if len(texts) > 1 and not self._any:
                raise BadRequestError([Problem(where, f"is given {len(texts)} times")])
            return self.of_text(texts[0], where) if len(texts) == 1 else list(texts)
        problems: list[Problem] = []
        items = []
        for index, text in enumerate(texts):
            adapter = self._items[min(index, len(self._items) - 1)]
            try:
                items.append(_of_text(adapter, text, place(where, (index,))))
            except BadRequestError as error:
                problems += error.problems
        if problems:
            raise BadRequestError(problems)
        return _checked(self._adapter.validate_python, items, where)

    def of_member(self, value: Any, where: str) -> Any:
        """What a member of the body's JSON object stands for."""
        if self._any:
            return value
        if self._structured:  # as JSON again, since strict models take other things from JSON than from Python
            return _checked(self._adapter.validate_json, pydantic_core.to_json(value), where)
        return _checked(self._adapter.validate_python, value, where)

    def of_body(self, body: bytes, where: str) -> Any:
        """What a whole body stands for, which is known to be JSON."""
        return _checked(self._adapter.validate_json, body, where)


def _of_text(adapter: TypeAdapter[Any], text: str, where: str) -> Any:
    try:
        return adapter.validate_strings(text)
    except ValidationError as error:
        try:  # literals and enums whose values are numbers
            value = orjson.loads(text)
            if isinstance(value, int | float):
                return adapter.validate_python(value)
        except ValueError:  # ValidationError is one
            pass
        raise _bad(error, where) from None


def _checked(validate: Any, value: Any, where: str) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        raise _bad(error, where) from None


def _bad(error: ValidationError, where: str) -> BadRequestError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return BadRequestError(Problem(place(where, each["loc"]), each["msg"]) for each in found)
