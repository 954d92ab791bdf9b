"""A Starlette request on its way through a handle: what can travel of it, and the request that is made of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fairlead.wire.errors import FairleadError

_TRAVELLING = (
    "type",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "path_params",
)


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A HTTP request that can be pickled."""

    scope: dict[str, Any]
    body: bytes

    def restored(self) -> Any:
        """A Starlette ``Request`` with the same method, headers, query, parameters and body."""
        from starlette.requests import Request

        body: bytes | None = self.body

        async def receive() -> dict[str, Any]:
            nonlocal body
            sent, body = body, None
            if sent is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": sent, "more_body": False}

        return Request(self.scope, receive)


def is_web_request(value: Any) -> bool:
    """Whether a value is a Starlette ``Request``."""
    import sys

    requests = sys.modules.get("starlette.requests")  # not imported: nobody can have made one
    return requests is not None and isinstance(value, requests.Request)


def travelling(request: Any) -> WebRequest:
    """What of a request travels. Raises FairleadError for one whose body has to be waited for."""
    scope = {name: request.scope[name] for name in _TRAVELLING if name in request.scope}
    scope["headers"] = [(bytes(name), bytes(value)) for name, value in request.scope["headers"]]
    for name in ("client", "server"):
        if request.scope.get(name) is not None:
            scope[name] = tuple(request.scope[name])
    reading = request.body()
    try:
        reading.send(None)
    except StopIteration as done:
        return WebRequest(scope, bytes(done.value))
    reading.close()
    raise FairleadError("the body of the request is not there yet: `await request.body()` before passing it on")
