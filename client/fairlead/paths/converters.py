"""The converters of Starlette's paths (``starlette/convertors.py``): what a parameter takes, and what it becomes."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

UUID_REGEX: Final = "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Converter:
    """What stands after the colon in ``{name:converter}``. A user's own is a ``regex`` and a ``convert``."""

    regex: str
    """What the parameter takes, as in Starlette's ``Convertor.regex``. How long matching takes is up to it."""
    convert: Callable[[str], Any]
    """Text to value. A ValueError means that the path does not match after all; other exceptions reach the caller."""
    language: str = ""
    """The name of a built-in one; empty for a user's own."""


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("too large for a float")
    return value


BUILTIN: Final[Mapping[str, Converter]] = MappingProxyType(
    {
        "str": Converter(regex="[^/]+", convert=str, language="str"),
        "path": Converter(regex=".*", convert=str, language="path"),
        "int": Converter(regex="[0-9]+", convert=int, language="int"),
        "float": Converter(regex=r"[0-9]+(\.[0-9]+)?", convert=_finite, language="float"),
        "uuid": Converter(regex=UUID_REGEX, convert=uuid.UUID, language="uuid"),
    }
)
"""Starlette's five. A number that Python cannot hold (an int of more than 4,300 digits, a float that would be infinite)
does not match, as in Django; Starlette answers the first with 500."""
