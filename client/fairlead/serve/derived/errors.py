"""What is wrong with a class, or with its lock file, for whoever derives a service from it."""

from __future__ import annotations


class HintError(TypeError):
    """A hint that cannot be mapped to protobuf. The message names where it stands, says why, and what to write."""

    def __init__(self, where: str, problem: str, fix: str) -> None:
        super().__init__(f"{where}: {problem}. {fix}")


class LockFileError(ValueError):
    """A lock file that cannot be read."""


class BreakingChangeError(ValueError):
    """The class does not keep what its lock file promised to callers. The message lists how, and what to do."""
