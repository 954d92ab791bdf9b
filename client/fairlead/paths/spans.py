"""Matches patterns that a regular expression would match in more than linear time, like ``{a}-{b}-{c}``.

The result is the one of Python's ``re``, greedy from the left. First, from the back, each part marks the places from
which the rest of the pattern fits; then, from the front, each takes the longest span that ends at such a place. Each
part looks at each character a fixed number of times, so the time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from fairlead.paths.converters import UUID_REGEX

Span: TypeAlias = tuple[int, int]

_MARK: Final = b"\x01"
_STR, _PATH, _INT = re.compile("[^/]+"), re.compile(".+"), re.compile("[0-9]+")
_UUID: Final = re.compile(UUID_REGEX)
_UUIDS: Final = re.compile(f"(?=({UUID_REGEX}))")  # those that overlap, too


def spans(text: str, parts: Sequence[tuple[str, str]]) -> list[Span] | None:
    """Where each part of a pattern stands in the whole text, or None. ``parts``: pairs of language and literal text;
    the language is the one of a built-in converter, or empty for a literal."""
    end = bytearray(len(text) + 1)
    end[-1] = 1
    places = [end]
    for language, literal in reversed(parts):
        places.append(_BACK[language](text, places[-1]) if language else _literal_back(text, places[-1], literal))
    places.reverse()
    if not places[0][0]:
        return None
    found: list[Span] = []
    at = 0
    for (language, literal), after in zip(parts, places[1:], strict=True):
        until = _LONGEST[language](text, after, at) if language else at + len(literal)
        found.append((at, until))
        at = until
    return found


def _literal_back(text: str, after: bytearray, literal: str) -> bytearray:
    here = bytearray(len(after))
    at = text.find(literal)
    while at >= 0:
        here[at] = after[at + len(literal)]
        at = text.find(literal, at + 1)
    return here


def _run_back(text: str, after: bytearray, runs: re.Pattern[str]) -> bytearray:
    """The places from which one or more characters of a run lead to a marked one: all before the run's last mark."""
    here = bytearray(len(after))
    for run in runs.finditer(text):
        start, end = run.span()
        last = after.rfind(_MARK, start + 1, end + 1)
        if last >= 0:
            here[start:last] = _MARK * (last - start)
    return here


def _union(one: bytearray, other: bytearray) -> bytearray:
    return bytearray((int.from_bytes(one) | int.from_bytes(other)).to_bytes(len(one)))


def _path_back(text: str, after: bytearray) -> bytearray:
    return _union(after, _run_back(text, after, _PATH))


def _str_back(text: str, after: bytearray) -> bytearray:
    return _run_back(text, after, _STR)


def _int_back(text: str, after: bytearray) -> bytearray:
    return _run_back(text, after, _INT)


def _float_back(text: str, after: bytearray) -> bytearray:
    fraction = _literal_back(text, _int_back(text, after), ".")
    return _int_back(text, _union(after, fraction))


def _uuid_back(text: str, after: bytearray) -> bytearray:
    here = bytearray(len(after))
    for match in _UUIDS.finditer(text):
        here[match.start()] = after[match.end(1)]
    return here


def _str_longest(text: str, after: bytearray, at: int) -> int:
    slash = text.find("/", at)
    return after.rfind(_MARK, at + 1, (slash if slash >= 0 else len(text)) + 1)


def _path_longest(text: str, after: bytearray, at: int) -> int:
    newline = text.find("\n", at)
    return after.rfind(_MARK, at, (newline if newline >= 0 else len(text)) + 1)


def _int_longest(text: str, after: bytearray, at: int) -> int:
    return after.rfind(_MARK, at + 1, _digits_end(text, at) + 1)


def _float_longest(text: str, after: bytearray, at: int) -> int:
    whole = _digits_end(text, at)
    if text.startswith(".", whole):
        until = after.rfind(_MARK, whole + 2, _digits_end(text, whole + 1) + 1)
        if until >= 0:
            return until
    return after.rfind(_MARK, at + 1, whole + 1)


def _uuid_longest(text: str, after: bytearray, at: int) -> int:
    # Where one begins there is but one end, since a dash is never a digit.
    match = _UUID.match(text, at)
    assert match is not None, "marked, so there is one"
    return match.end()


def _digits_end(text: str, at: int) -> int:
    digits = _INT.match(text, at)
    return digits.end() if digits else at


_BACK: Final = {
    "str": _str_back,
    "path": _path_back,
    "int": _int_back,
    "float": _float_back,
    "uuid": _uuid_back,
}
_LONGEST: Final = {
    "str": _str_longest,
    "path": _path_longest,
    "int": _int_longest,
    "float": _float_longest,
    "uuid": _uuid_longest,
}
