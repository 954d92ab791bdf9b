"""What a program printed, but for the progress of its deploys, which only a slow one writes."""

from __future__ import annotations

import re

_PROGRESS = re.compile(
    r"^fairlead: (?:\S+/\S+  \d+/\d+ replicas  (?:UPDATING|HEALTHY)|\S+ is running after [0-9.]+ s)\n", re.MULTILINE
)


def without_progress(stderr: str) -> str:
    """What is left of ``stderr``; a line of progress that names a failure is kept."""
    return _PROGRESS.sub("", stderr)
