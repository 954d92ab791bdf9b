"""SIGTERM as a reason to end in order: containers and service managers stop programs so.

Only where this library is what a program waits in, or is the program: somebody's own handler is never replaced.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

STATUS = 128 + signal.SIGTERM
"""The exit status of a program that was told to end before it served."""


class Terminated(SystemExit):
    """SIGTERM has come. Uncaught it ends the program, with status 143, after its ``finally`` blocks."""

    def __init__(self) -> None:
        super().__init__(STATUS)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raises :class:`Terminated` in the block when SIGTERM comes. Without effect where somebody else handles it.

    Neither has it an effect outside of the main thread, where Python allows no handlers to be set.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
