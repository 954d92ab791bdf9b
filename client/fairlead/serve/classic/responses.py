"""What a backend returns, as a HTTP response: by the rules of classic Ray Serve."""

from __future__ import annotations

import json
from typing import Any


def response_of(value: Any) -> Any:
    """A Starlette ``Response`` as it is; None, bytes and str as text; all else as JSON, indented by two.

    Raises TypeError for what JSON cannot hold.
    """
    from starlette.responses import Response

    if isinstance(value, Response):
        return value
    if value is None:
        return Response(b"", media_type=None, headers={"content-type": "text/plain"})
    if isinstance(value, bytes):
        return Response(value, headers={"content-type": "text/plain"})
    if isinstance(value, str):
        return Response(value, media_type="text/plain")
    return Response(json.dumps(value, indent=2, default=_simpler), media_type="application/json")


def error_response(error: BaseException) -> Any:
    """500, with the error's type and message in classic Ray Serve's words: its clients look for how the text begins."""
    from starlette.responses import Response

    text = f"Task Error. Traceback: {type(error).__name__}: {error}"
    return Response(text, status_code=500, media_type="text/plain")


def _simpler(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, BaseException):
        return str(value)
    if callable(dump := getattr(value, "model_dump", None) or getattr(value, "dict", None)):
        return dump()
    if callable(to_list := getattr(value, "tolist", None)):
        return to_list()
    raise TypeError(f"{type(value).__name__} is not JSON serializable")
