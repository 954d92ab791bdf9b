"""What can be wrong with a path: a client's (400), or one that somebody registers."""

from __future__ import annotations


class PathError(ValueError):
    """A request's path is not one: a malformed percent escape, invalid UTF-8, no leading slash. The answer is 400.

    The message may be shown to the client: it names the fault and its place, and repeats nothing of the path.
    """


class PatternError(ValueError):
    """A path or template that cannot be registered. The message repeats it and says what is wrong."""

    def __init__(self, pattern: str, problem: str) -> None:
        super().__init__(f"{pattern!r}: {problem}")
        self.pattern = pattern
        self.problem = problem


class UnknownConverterError(PatternError, AssertionError):
    """A Starlette path names a converter that does not exist. Starlette raises AssertionError here, so this is one."""


class DuplicateRouteError(ValueError):
    """Two routes take the same method on the same paths. The message names both."""
