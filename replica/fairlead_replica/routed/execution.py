"""Running a routed method: as any other, but for its arguments, what its results become, and how errors are told."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from fairlead.v1 import session_pb2
from fairlead.wire.errors import FairleadError
from fairlead.wire.stream import Stream
from fairlead_replica import http
from fairlead_replica.call import Host
from fairlead_replica.execution import Execution
from fairlead_replica.routed.bindings import Bindings
from fairlead_replica.routed.problems import BadRequestError
from fairlead_replica.tracebacks import user_traceback

logger = logging.getLogger(__name__)


class RoutedExecution(Execution):
    """A HTTP call that names a method. One that came by no route of it is a request handler's, as any other."""

    __slots__ = ("_accept", "_bindings", "_items", "_routed")

    def __init__(
        self,
        host: Host,
        stream: Stream,
        header: session_pb2.CallHeader,
        bindings: Bindings,
        *,
        admitted: bool = True,
    ) -> None:
        super().__init__(host, stream, header, admitted=admitted)
        self._bindings = bindings
        self._routed = False
        self._accept: list[bytes] = []
        self._items: Any = None

    def _http_arguments(self, payload: bytes) -> tuple[Any, dict[str, Any]]:
        message = http.parse_request(payload)
        if not message.route:
            return super()._http_arguments(payload)
        self._request = http.request_of(message)
        if self._bindings.any_route:
            self._request.scope["path_params"] = self._bindings.captured(message.route, message.path_params)
            return (self._request,), {}
        # Imported with the first request, so that replicas without routes do not carry pydantic.
        from fairlead_replica.routed.responses import encode_result

        binding = self._bindings.find(self.header.method, message.route)
        if not binding.plan.handler:
            self._routed = True
            self._dumps = encode_result
            self._accept = [field.value for field in message.headers if field.name == b"accept"]
        args, kwargs = binding.bind(message, self._request)
        return args, kwargs

    def _start_chunks(self) -> http.ChunkEncoder | None:
        if not self._routed:
            return super()._start_chunks()
        from fairlead_replica.routed.responses import Items, stream_type

        items = self._items = Items(stream_type(self._accept))
        self._dumps = items.encode
        return items

    def _fail(self, error: BaseException) -> None:
        if self._interrupted is None and isinstance(error, BadRequestError):
            self._link.end(self.stream, error.outcome())
            self._release()
            return
        if self._interrupted is None and self._routed and not isinstance(error, FairleadError | asyncio.CancelledError):
            if not self._started() and _is_http_exception(error):
                from fairlead_replica.routed.responses import encode_http_error

                try:
                    payload = encode_http_error(error)
                except (TypeError, ValueError) as unusable:
                    logger.error("a HTTPException cannot be sent: %s", unusable)  # noqa: TRY400 - its own follows
                else:
                    self._link.end(self.stream, None, payload)
                    self._release()
                    return
            logger.error("request %s failed\n%s", self.header.request_id, user_traceback(error))
            self._answered = True  # the gateway answers, by the outcome: with a status, or in the stream
        super()._fail(error)

    def _started(self) -> bool:
        """Whether a response has begun."""
        return self._answered or (self._items is not None and self._items.started)


def _is_http_exception(error: BaseException) -> bool:
    exceptions = sys.modules.get("starlette.exceptions")  # not imported: nobody can have raised one
    return exceptions is not None and isinstance(error, exceptions.HTTPException)
