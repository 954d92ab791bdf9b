"""Python's names to protobuf's, by the conventions that buf lint's STANDARD rules check."""

from __future__ import annotations

import re

_FIELD = re.compile(r"[a-z][a-z0-9_]*")
_TYPE = re.compile(r"[A-Z][A-Za-z0-9]*")


def snake(name: str) -> str:
    """``lower_snake_case``: "imageURL" becomes "image_url"; words are split as buf splits them."""
    out = ""
    stripped = name.strip("_")
    for at, letter in enumerate(stripped):
        new_word = letter.isupper() and bool(out) and out[-1] != "_"
        if new_word and (_starts_word(stripped, at) or stripped[at - 1].islower()):
            out += "_"
        if letter != "_" or out[-1] != "_":
            out += letter
    return out.lower()


def _starts_word(name: str, at: int) -> bool:
    """Whether a capital belongs to what follows it, as the S in "HTTPServer"."""
    following = name[at + 1 : at + 2]
    return bool(following) and not (following.isupper() or following.isdigit() or following == "_")


def upper_snake(name: str) -> str:
    """``UPPER_SNAKE_CASE``."""
    return snake(name).upper()


def pascal(name: str) -> str:
    """``PascalCase``: "classify_all" becomes "ClassifyAll"; brackets of generics and the like fall out."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[\W_]+", name))


def camel(name: str) -> str:
    """The name of a field in JSON: "image_url" becomes "imageUrl"."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def is_field_name(name: str) -> bool:
    """Whether a ``snake`` can name a field: ASCII, and it begins with a letter."""
    return _FIELD.fullmatch(name) is not None


def is_type_name(name: str) -> bool:
    """Whether a ``pascal`` can name a message, an enum or a method."""
    return _TYPE.fullmatch(name) is not None


def is_version(name: str) -> bool:
    """Whether the last part of a package is a version as buf wants it: "v1", "v2beta1"."""
    return (
        re.fullmatch(r"v[1-9]\d*((alpha|beta)([1-9]\d*)?|p[1-9]\d*(alpha|beta)([1-9]\d*)?|test\w*)?", name) is not None
    )
