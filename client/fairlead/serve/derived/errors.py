"""What is wrong with a class or its lock file, and with a value: for whoever derives a service, and for its callers."""

from __future__ import annotations


class HintError(TypeError):
    """A hint that cannot be mapped to protobuf. The message names where it stands, says why, and what to write."""

    def __init__(self, where: str, problem: str, fix: str) -> None:
        super().__init__(f"{where}: {problem}. {fix}")


class LockFileError(ValueError):
    """A lock file that cannot be read."""


class BreakingChangeError(ValueError):
    """The class does not keep what its lock file promised to callers. The message lists how, and what to do."""


class FieldError(ValueError):
    """A value that cannot be, and its place, which grows as the error rises: "nodes[3].name"."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.place = place
        self.problem = problem

    def under(self, name: str) -> FieldError:
        """The same error, one step further out."""
        dot = "." if self.place and not self.place.startswith("[") else ""
        return FieldError(f"{name}{dot}{self.place}", self.problem)
