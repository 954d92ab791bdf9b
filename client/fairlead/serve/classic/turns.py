"""Changes of what there is already, one after the other."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")
_turn = threading.Lock()


def in_turn(change: Callable[_P, _R]) -> Callable[_P, _R]:
    """For what reads what there is, and writes it changed: one thread of this program at a time."""

    @functools.wraps(change)
    def changed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _turn:
            return change(*args, **kwargs)

    return changed
