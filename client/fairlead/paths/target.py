"""A request's path, split before it is decoded.

Decoding first would turn ``%2F`` into a separator and ``%3A`` into the start of a verb. So both are decoded into
placeholders, lone surrogates, which strict UTF-8 can never yield; all else becomes plain text at once. Whoever takes a
piece of the text gets the placeholders back as what they stand for.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from fairlead.paths.errors import PathError

_UPPER_SLASH, _LOWER_SLASH, _COLON = "\udc2f", "\udc0f", "\udc3a"
_PLACEHOLDERS: Final = {b"%2F": _UPPER_SLASH, b"%2f": _LOWER_SLASH, b"%3A": _COLON, b"%3a": _COLON}
_KEPT: Final = re.compile(rb"(%2[Ff]|%3[Aa])")
_MALFORMED: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_WHOLLY: Final = str.maketrans({_UPPER_SLASH: "/", _LOWER_SLASH: "/", _COLON: ":"})
_KEEPING_SLASHES: Final = str.maketrans({_UPPER_SLASH: "%2F", _LOWER_SLASH: "%2f", _COLON: ":"})


class Target:
    """The path of one request.

    ``text``: decoded, with placeholders. ``segments``: the same between its slashes; none for "" and "/".
    """

    __slots__ = ("_escaped", "raw", "segments", "text")

    def __init__(self, raw: bytes) -> None:
        """``raw``: the path as it was sent, without the query. Raises PathError."""
        self.raw = raw
        if raw and not raw.startswith(b"/"):
            raise PathError("the path does not start with '/'")
        self.text, self._escaped = decode(raw)
        self.segments = self.text[1:].split("/") if len(self.text) > 1 else []

    def single(self, piece: str) -> str:
        """A piece of the text, wholly decoded: what one segment captures (http.proto, RFC 6570 section 3.2.2)."""
        return piece.translate(_WHOLLY) if self._escaped else piece

    def multi(self, piece: str) -> str:
        """A piece of the text in which ``%2F`` and ``%2f`` stay: what several segments capture (http.proto)."""
        return piece.translate(_KEEPING_SLASHES) if self._escaped else piece

    @property
    def starlette_text(self) -> str:
        """The text as Starlette's paths see it: they know no verbs, so a colon is a colon."""
        return self.text.replace(_COLON, ":") if self._escaped else self.text

    def with_other_ending(self) -> Target | None:
        """The path that Starlette would redirect to (``Router.app``, ``redirect_slashes``); None for "/"."""
        if self.raw == b"/":
            return None
        return Target(self.raw.rstrip(b"/") if self.raw.endswith(b"/") else self.raw + b"/")


def decode(raw: bytes) -> tuple[str, bool]:
    """The decoded text and whether there are placeholders in it. A plus sign is a plus sign. Raises PathError."""
    try:
        if b"%" not in raw:
            return raw.decode(), False
        malformed = _MALFORMED.search(raw)
        if malformed is not None:
            raise PathError(f"malformed percent escape at byte {malformed.start()} of the path")
        pieces = _KEPT.split(raw)
        text = "".join(_PLACEHOLDERS.get(piece) or unquote_to_bytes(piece).decode() for piece in pieces)
    except UnicodeDecodeError as error:
        raise PathError(f"the path is not UTF-8: {error.reason}") from error
    return text, len(pieces) > 1


def separated(raw: bytes) -> str:
    """The decoded path, in which only those slashes are slashes that separate segments. Raises PathError."""
    text, escaped = decode(raw)
    return text.replace(_COLON, ":") if escaped else text


def decode_wholly(raw: bytes) -> str:
    """The text of one segment without placeholders. Raises PathError."""
    return decode(raw)[0].translate(_WHOLLY)
