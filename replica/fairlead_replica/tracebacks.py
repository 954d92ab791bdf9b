"""Tracebacks as users want to read them: their own lines, without the host's."""

from __future__ import annotations

import importlib
import os
import traceback
from types import TracebackType

from fairlead.wire import errors
from fairlead.wire.outcomes import RemoteTraceback

_NOT_THEIRS = (
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
    os.path.dirname(os.path.dirname(os.path.abspath(errors.__file__))) + os.sep,
    os.path.dirname(os.path.abspath(importlib.__file__)) + os.sep,
    "<frozen importlib",
    "<frozen runpy",
)


def user_frames(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame that is not the host's; None if the error came from no frame of the user's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_NOT_THEIRS):
        trace = trace.tb_next
    return trace


def user_traceback(error: BaseException) -> str:
    """The error and its causes as text, trimmed to what is the user's. Never raises: the error may be anything."""
    try:
        trace = user_frames(error)
        # Behind the user's line a remote error is only raised again, with its own traceback as its cause; and how the
        # library finds that it was called wrongly is of no use.
        ours = isinstance(error, errors.FairleadError) or isinstance(error.__cause__, RemoteTraceback)
        limit = _up_to_the_user(trace) if ours else None
        told = traceback.TracebackException(type(error), error, trace, limit=limit, compact=True)
        _leave_out_the_library(told)
        return "".join(told.format())
    except Exception as failure:
        return f"{type(error).__qualname__}, whose traceback cannot be formatted: {type(failure).__name__}\n"


def _leave_out_the_library(told: traceback.TracebackException) -> None:
    """Removes frames of the library between the user's: how a batch or a model's loader came to be called."""
    waiting = [told]
    while waiting:
        one = waiting.pop()
        theirs = [number for number, frame in enumerate(one.stack) if not frame.filename.startswith(_NOT_THEIRS)]
        last = theirs[-1] if theirs else -1
        one.stack[:] = [*(one.stack[number] for number in theirs), *one.stack[last + 1 :]]
        waiting += [each for each in (one.__cause__, one.__context__, *(one.exceptions or ())) if each is not None]


def _up_to_the_user(trace: TracebackType | None) -> int | None:
    """How many frames there are up to the last of the user's; None: there is none."""
    last = None
    for number, (frame, _) in enumerate(traceback.walk_tb(trace), start=1):
        if not frame.f_code.co_filename.startswith(_NOT_THEIRS):
            last = number
    return last


def one_line(error: BaseException) -> str:
    """The error's type and text in one line. Never raises."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        lines = []
    name = type(error).__qualname__
    return f"{name}: {lines[0]}" if lines else name
