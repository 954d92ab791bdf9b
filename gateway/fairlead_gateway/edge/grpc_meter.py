"""Measures the calls that come through the gRPC door, and writes the access log."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
import grpc.aio

from fairlead_gateway.metrics.doors import DoorMeasures

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

access_log = logging.getLogger("fairlead.access")

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class GrpcMeter:
    """Wraps handlers. ``logs``: whether each call is written to the access log."""

    def __init__(self, measures: DoorMeasures, *, logs: bool = False) -> None:
        self._measures = measures
        self._logs = logs

    def around(self, path: str, handler: Handler) -> Handler:
        """The same handler, measured. ``path``: ``/package.Service/Method``."""
        if handler.response_streaming:
            respond = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(self._streaming(path, respond), handler.request_deserializer, handler.response_serializer)
        respond = handler.stream_unary if handler.request_streaming else handler.unary_unary
        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(self._single(path, respond), handler.request_deserializer, handler.response_serializer)

    def _single(self, path: str, respond: Any) -> Any:
        async def measured(request: Any, context: Context) -> Any:
            began = time.perf_counter()
            self._measures.ongoing += 1
            answered = False
            try:
                answer = await respond(request, context)
                answered = True
                return answer
            finally:
                self._ended(path, context, began, answered)

        return measured

    def _streaming(self, path: str, respond: Any) -> Any:
        async def measured(request: Any, context: Context) -> AsyncIterator[Any]:
            began = time.perf_counter()
            self._measures.ongoing += 1
            answered = False
            try:
                async for item in respond(request, context):
                    yield item
                answered = True
            finally:
                self._ended(path, context, began, answered)

        return measured

    def _ended(self, path: str, context: Context, began: float, answered: bool) -> None:
        measures = self._measures
        measures.ongoing -= 1
        code: Any = context.code()
        number = code.value[0] if isinstance(code, grpc.StatusCode) else code or 0
        # A handler that neither answered nor aborted was cut off by its caller.
        status = _NAMES.get(number, "UNKNOWN") if answered or number else "CANCELLED"
        seconds = time.perf_counter() - began
        measures.ended(path, "", "", status, seconds, failed=status != "OK")
        if self._logs:
            access_log.info("CALL %s %s %.1fms", path, status, seconds * 1e3, extra={"route": path})
