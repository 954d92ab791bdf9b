"""What a request handler raised, where it is more than a failure: a response, or what was wrong with the request.

Starlette is not imported: whoever uses it has.
"""

from __future__ import annotations

import logging
import sys

from fairlead.serve.multiplexing.decorator import CallersModelError
from fairlead.wire.errors import InvalidArgumentsError
from fairlead_replica.http import JSON, PLAIN_UTF8, encode_json, encode_response
from fairlead_replica.http_fields import fields_of_exception

logger = logging.getLogger(__name__)


def response_of(error: BaseException) -> bytes | None:
    """A Starlette HTTPException of the user's as the response that it stands for, its detail as text, or as JSON.

    None for any other error, and for one that HTTP cannot carry, which is logged.
    """
    exceptions = sys.modules.get("starlette.exceptions")
    if exceptions is None or not isinstance(error, exceptions.HTTPException):
        return None
    detail: object = error.detail  # FastAPI's may be anything
    try:
        content_type, body = (PLAIN_UTF8, detail.encode()) if isinstance(detail, str) else (JSON, encode_json(detail))
        return encode_response(error.status_code, fields_of_exception(error, content_type, body), body)
    except (TypeError, ValueError) as unusable:
        logger.error("a HTTPException cannot be sent: %s", unusable)  # noqa: TRY400 - whose traceback follows
        return None


def unreadable(error: BaseException) -> InvalidArgumentsError | None:
    """What the caller is told if the handler's request could not read its body as JSON or as a form, or names no
    model; None for any other error: what the handler itself makes of a body is its own business.
    """
    if isinstance(error, CallersModelError):
        return InvalidArgumentsError(str(error))
    requests, formparsers = sys.modules.get("starlette.requests"), sys.modules.get("starlette.formparsers")
    if requests is None or formparsers is None:
        return None
    if not isinstance(error, ValueError | RecursionError | formparsers.MultiPartException):
        return None
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == requests.__file__ and code.co_name in _READERS:
            return InvalidArgumentsError(f"the body of the request is no {_READERS[code.co_name]}")
        trace = trace.tb_next
    return None


_READERS = {"json": "JSON", "_get_form": "form"}
"""Methods of Starlette's Request, and what they take its body for."""
