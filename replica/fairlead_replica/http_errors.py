"""What a request handler raised, where it is more than a failure: a response, or what was wrong with the request.

Starlette is not imported: whoever uses it has.
"""

from __future__ import annotations

import sys

from fairlead.serve.multiplexing.decorator import CallersModelError
from fairlead.wire.errors import InvalidArgumentsError
from fairlead_replica.http import PLAIN_UTF8, encode_response


def response_of(error: BaseException) -> bytes | None:
    """A Starlette HTTPException of the user's as the response that it stands for; None for any other error."""
    exceptions = sys.modules.get("starlette.exceptions")
    if exceptions is None or not isinstance(error, exceptions.HTTPException):
        return None
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (error.headers or {}).items()
    ]
    body = error.detail.encode()
    headers += [(b"content-type", PLAIN_UTF8), (b"content-length", b"%d" % len(body))]
    return encode_response(error.status_code, headers, body)


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
