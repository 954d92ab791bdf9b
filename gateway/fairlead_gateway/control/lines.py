"""Lines of text from pieces of bytes. Pure."""

from __future__ import annotations

LONGEST_LINE = 16 * 1024
"""Bytes. A longer line becomes several: a program that never ends its line must not fill the controller's memory."""


class LineSplitter:
    """Cuts what a program writes into lines."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that the piece completes, without their ends. What is not UTF-8 is escaped."""
        *lines, rest = (self._rest + data).split(b"\n")
        while len(rest) > LONGEST_LINE:
            lines.append(rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        self._rest = rest
        return [text for line in lines for text in _pieces(line)]

    def finish(self) -> list[str]:
        """What came after the last end of a line."""
        rest, self._rest = self._rest, b""
        return _pieces(rest) if rest else []


def _pieces(line: bytes) -> list[str]:
    line = line.removesuffix(b"\r")
    return [
        line[start : start + LONGEST_LINE].decode("utf-8", "backslashreplace")
        for start in range(0, max(len(line), 1), LONGEST_LINE)
    ]
