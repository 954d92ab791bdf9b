"""Constraints in ``Annotated`` hints of parameters, which pydantic knows how to check."""

from __future__ import annotations

import sys
import typing
from typing import Any

from fairlead.serve.derived.errors import FieldError
from fairlead.serve.derived.shapes import Convert


def constraint_of(hint: Any) -> Convert | None:
    """What checks a value against the constraints in its hint, and gives it back; None: there are none.

    It raises FieldError. Constraints are pydantic's ``Field`` and those of ``annotated_types``.
    """
    pydantic = sys.modules.get("pydantic")
    fields = sys.modules.get("pydantic.fields")  # pydantic imports its modules when they are asked for
    if pydantic is None or not _is_constrained(hint, fields.FieldInfo if fields is not None else ()):
        return None
    try:
        adapter = pydantic.TypeAdapter(hint)
    except pydantic.PydanticUserError:  # it holds what pydantic does not know, an array for example
        return None

    def check(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except pydantic.ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = "".join(f"[{step!r}]" for step in problem["loc"])
            raise FieldError(place, problem["msg"]) from error

    return check


def _is_constrained(hint: Any, field_info: type | tuple[()]) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        for each in hint.__metadata__:
            if isinstance(each, field_info) or type(each).__module__.startswith("annotated_types"):
                return True
    return any(_is_constrained(each, field_info) for each in typing.get_args(hint))
