"""Changes of what there is already: of this program's one after the other, of several programs' none is lost."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fairlead.wire.errors import ChangedMeanwhileError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_turn = threading.Lock()
_ATTEMPTS = 1000
"""Each one that fails means that another program's change has come to pass."""


def in_turn(change: Callable[_P, _R]) -> Callable[_P, _R]:
    """For what reads what there is, and writes it changed: one thread of this program at a time.

    It reads again, and is repeated, when another program was faster, until that has happened very often: then it raises
    ChangedMeanwhileError.
    """

    @functools.wraps(change)
    def changed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _turn:
            for _ in range(_ATTEMPTS - 1):
                with contextlib.suppress(ChangedMeanwhileError):
                    return change(*args, **kwargs)
            return change(*args, **kwargs)

    return changed
