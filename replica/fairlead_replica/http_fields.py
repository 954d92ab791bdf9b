"""Header fields of responses that the user's code makes: what HTTP cannot carry is that code's error.

Found out here, because here it is known whose error it is, and the response has not begun.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = b"content-length"


def fields_of(given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields, their names in lower case. Raises ValueError for what HTTP cannot carry (RFC 9110, 5.1, 5.5, 8.6)."""
    fields = [(bytes(name).lower(), bytes(value)) for name, value in given]
    for name, value in fields:
        if _NAME.fullmatch(name) is None or _NO_VALUE.search(value) or (name == _LENGTH and not value.isdigit()):
            raise ValueError(f"the header field {name!r} of the response cannot be sent: {value!r}")
    if [name for name, _ in fields].count(_LENGTH) > 1:
        raise ValueError("the response has more than one content-length")
    return fields


def fields_of_exception(error: Any, content_type: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of the response that a Starlette HTTPException stands for.

    ``content_type``: unless the exception has its own. Raises ValueError as :func:`fields_of` does.
    """
    given = []
    for name, value in (error.headers or {}).items():
        try:
            given.append((name.encode("latin-1"), value.encode("latin-1")))
        except (AttributeError, UnicodeEncodeError) as unusable:
            raise ValueError(f"the header field {name!r} of the response is no Latin-1 text") from unusable
    fields = [field for field in fields_of(given) if field[0] != _LENGTH]
    if b"content-type" not in [name for name, _ in fields]:
        fields.append((b"content-type", content_type))
    return [*fields, (_LENGTH, b"%d" % len(body))]
