"""Tracebacks as users want to read them: their own lines, without the host's."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from fairlead.wire import errors

_NOT_THEIRS = (
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
    os.path.dirname(os.path.dirname(os.path.abspath(errors.__file__))) + os.sep,
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
        return "".join(traceback.format_exception(type(error), error, user_frames(error)))
    except Exception as failure:
        return f"{type(error).__qualname__}, whose traceback cannot be formatted: {type(failure).__name__}\n"


def one_line(error: BaseException) -> str:
    """The error's type and text in one line. Never raises."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        lines = []
    name = type(error).__qualname__
    return f"{name}: {lines[0]}" if lines else name
