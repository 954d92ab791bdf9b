"""``fairlead.v1.ControlService`` on the gateway's ports, for whoever may run code here anyway.

The controller itself listens on a Unix socket only. A gateway worker passes its owner's requests on, so that one
authenticated port is all that deploying from another machine needs. What is not authenticated is refused here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio

from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError, InvalidCallError, UnauthenticatedError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.status import grpc_status

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_UNPROVEN = (
    "deploying, and asking what is deployed, takes the owner's Unix socket, or TLS with a token or a client certificate"
)
_NOT_FROM_HERE = "an instance is shut down on its own machine, by `fairlead shutdown`; delete its applications instead"
_SERVICE = control_pb2.DESCRIPTOR.services_by_name["ControlService"]
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class ControlRelay:
    """Passes requests on to the controller at an address, as bytes. Belongs to one event loop."""

    def __init__(self, controller: str) -> None:
        self._controller = controller
        self._channel: grpc.aio.Channel | None = None

    def by_method(self, trust: Trust) -> dict[str, Handler]:
        """The handlers by full method name, for a listener whose peers are trusted that far.

        ``Watch``, which is for gateway workers, is not among them.
        """
        handlers: dict[str, Handler] = {}
        for method in _SERVICE.methods:
            path = f"/{_SERVICE.full_name}/{method.name}"
            if method.client_streaming:
                continue
            if not trust.may_run_code:
                handlers[path] = _refusal(UnauthenticatedError(_UNPROVEN))
            elif method.name == "Shutdown":  # it would wait for the end of this worker, which would wait for it
                handlers[path] = _refusal(InvalidCallError(_NOT_FROM_HERE))
            elif method.server_streaming:
                handlers[path] = grpc.unary_stream_rpc_method_handler(self._stream(path))
            else:
                handlers[path] = grpc.unary_unary_rpc_method_handler(self._unary(path))
        return handlers

    async def close(self) -> None:
        """Ends the connection to the controller; requests under way fail."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def _connection(self) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._controller, options=_OPTIONS)
        return self._channel

    def _unary(self, path: str) -> Any:
        async def relay(request: bytes, context: Context) -> bytes:
            call: Any = self._connection().unary_unary(path)(request, timeout=context.time_remaining())
            try:
                answer: bytes = await call
            except grpc.aio.AioRpcError as error:
                await _pass_on(context, error)
            return answer

        return relay

    def _stream(self, path: str) -> Any:
        async def relay(request: bytes, context: Context) -> AsyncIterator[bytes]:
            call: Any = self._connection().unary_stream(path)(request, timeout=context.time_remaining())
            try:
                async for answer in call:
                    yield answer
            except grpc.aio.AioRpcError as error:
                await _pass_on(context, error)
            finally:
                call.cancel()

        return relay


async def _pass_on(context: Context, error: grpc.aio.AioRpcError) -> NoReturn:
    metadata = tuple((key, value) for key, value in error.trailing_metadata() or ())
    await context.abort(error.code(), error.details() or "", metadata)


def _refusal(error: FairleadError) -> Handler:
    async def refuse(request: bytes, context: Context) -> AsyncIterator[bytes]:
        await context.abort(*grpc_status(outcome_of(error, trusted=False)))
        yield b""  # makes this a generator, as the handler of a stream is

    return grpc.unary_stream_rpc_method_handler(refuse)
