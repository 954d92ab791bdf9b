"""Typed services as real gRPC services: raw bytes in and out, metadata, deadlines and statuses of the call's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio

from fairlead.v1 import session_pb2
from fairlead.wire.errors import ApplicationNotFoundError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.gathering import Gathering
from fairlead_gateway.edge.grpc_meter import GrpcMeter
from fairlead_gateway.edge.serving import shown
from fairlead_gateway.edge.serving_headers import REQUEST_ID_KEY, bound_deadline, checked_request_id
from fairlead_gateway.edge.status import grpc_status
from fairlead_gateway.edge.typed.answers import Head, TypedAnswer
from fairlead_gateway.edge.typed.calls import drive
from fairlead_gateway.edge.typed.methods import RpcMethods
from fairlead_gateway.edge.typed.rpc_method import RpcMethod
from fairlead_gateway.edge.upstream import CallRouter

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

RAY_REQUEST_ID_KEY = "request_id"
"""Ray Serve's name of it in metadata, both ways."""

_IDS = {
    REQUEST_ID_KEY: "request_id",
    RAY_REQUEST_ID_KEY: "request_id",
    "multiplexed_model_id": "multiplexed_model_id",
    "serve_multiplexed_model_id": "multiplexed_model_id",
    "session_id": "session_id",
    "x-session-id": "session_id",
    "x-serve-shard-key": "shard_key",
}
"""Metadata that means something to the gateway, to the field of the header."""


class TypedHandlers:
    """The handlers of one listener. Belongs to one event loop.

    ``trust``: of its peers. ``limit``: the largest message of a result in bytes. ``longest_us``: microseconds that a
    call may take; 0: no limit. ``secret``: whether ``authorization`` is for the gateway, and not for the callee.
    """

    def __init__(
        self,
        router: CallRouter,
        gathering: Gathering,
        methods: RpcMethods,
        trust: Trust,
        *,
        limit: int,
        longest_us: int = 0,
        secret: bool = False,
        meter: GrpcMeter | None = None,
    ) -> None:
        self._meter = meter
        self._router = router
        self._gathering = gathering
        self._methods = methods
        self._trust = trust
        self._limit = limit
        self._longest_us = longest_us
        self._secret = secret
        self._handlers: dict[str, Handler] = {}
        methods.on_change.append(self._handlers.clear)

    def find(self, path: str) -> Handler | None:
        """The handler for a full method name; None: no application offers it."""
        handler = self._handlers.get(path)
        if handler is None:
            kind = self._methods.kind(path)
            if kind is None:
                return None
            made = self._made(path, *kind)
            handler = self._handlers[path] = made if self._meter is None else self._meter.around(path, made)
        return handler

    def _made(self, path: str, client_streaming: bool, server_streaming: bool) -> Handler:
        if not client_streaming and not server_streaming:

            async def unary(request: bytes, context: Context) -> bytes:
                return await self._unary(path, request, context)

            return grpc.unary_unary_rpc_method_handler(unary)
        if not client_streaming:

            async def answers(request: bytes, context: Context) -> AsyncIterator[bytes]:
                async for item in self._stream(path, _one(request), context):
                    yield item

            return grpc.unary_stream_rpc_method_handler(answers)

        async def exchange(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            async for item in self._stream(path, requests, context):
                yield item

        if server_streaming:
            return grpc.stream_stream_rpc_method_handler(exchange)

        async def collect(requests: AsyncIterator[bytes], context: Context) -> bytes:
            return b"".join([item async for item in self._stream(path, requests, context)])

        return grpc.stream_unary_rpc_method_handler(collect)

    async def _unary(self, path: str, request: bytes, context: Context) -> bytes:
        header = session_pb2.CallHeader()
        try:
            payload = self._method(path, header, context).begin(header, request)
        except Exception as error:
            await _fail(context, outcome_of(shown(error), trusted=False), header)

        async def send_head(head: Head) -> None:
            await context.send_initial_metadata(_pairs(head))

        answer = TypedAnswer(self._limit, send_head)
        try:
            self._gathering.start(header, payload, answer, self._trust)
            result = await answer.single()
        except Exception as error:
            await _fail(context, outcome_of(shown(error), trusted=False), header)
        finally:
            answer.close()
            self._gathering.done()
        if answer.outcome is not None:
            await _fail(context, answer.outcome, header)
        context.set_trailing_metadata(_trailing(header, answer.metadata))
        return result

    async def _stream(self, path: str, messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """A call in which at least one side streams. An item's credit is returned when gRPC has taken it."""
        header = session_pb2.CallHeader()
        begun = False

        async def begin(head: Head = ()) -> None:
            nonlocal begun
            begun = True
            await context.send_initial_metadata(((REQUEST_ID_KEY, header.request_id), *_pairs(head)))

        answer = TypedAnswer(self._limit, begin)
        try:
            method = self._method(path, header, context)
            driving = self._start(method, header, messages, answer, await _first(method, messages), context)
        except Exception as error:
            await _fail(context, outcome_of(shown(error), trusted=False), header)
        try:
            while True:
                entry = await answer.next()
                if not begun and (entry is not None or answer.outcome is None):
                    await begin()
                if entry is None:
                    break
                yield entry[0]
                answer.consumed(entry[1])
        finally:
            answer.close()
            if driving is not None:
                driving.cancel()
        if answer.outcome is not None:
            await _fail(context, answer.outcome, header)
        context.set_trailing_metadata(_trailing(header, answer.metadata))

    def _start(
        self,
        method: RpcMethod,
        header: session_pb2.CallHeader,
        messages: AsyncIterator[bytes],
        answer: TypedAnswer,
        first: bytes | None,
        context: Context,
    ) -> asyncio.Task[None] | None:
        """Starts a call that ends at the latest when its RPC does. The task that passes on a client's stream."""
        context.add_done_callback(lambda context: answer.close())  # type: ignore[arg-type]  # the stub is no Protocol
        if first is None:
            driving = drive(self._router, method, header, messages, answer, self._trust)
            return asyncio.get_running_loop().create_task(driving)
        payload = method.begin(header, first)
        answer.attach(self._router.start(header, payload, answer, trust=self._trust))
        return None

    def _method(self, path: str, header: session_pb2.CallHeader, context: Context) -> RpcMethod:
        """The method that is meant; fills in what metadata and deadline say. Raises FairleadError."""
        application = read_metadata(header, context.invocation_metadata() or (), self._secret)
        header.peer = context.peer()
        remaining = context.time_remaining()
        if remaining is not None:
            header.timeout_us = int(remaining * 1e6) or 1  # 0 would mean no deadline
        bound_deadline(header, self._longest_us)
        method = self._methods.find(path, application)
        if method is None:  # deleted since gRPC has asked for the handler
            raise ApplicationNotFoundError(f"no application offers {path} any more")
        return method


def read_metadata(
    header: session_pb2.CallHeader, metadata: Iterable[tuple[str, str | bytes]], secret: bool = False
) -> str:
    """Fills in what metadata says; the application that it names, or an empty string. Raises InvalidCallError."""
    application = ""
    add = header.metadata.add
    for key, value in metadata:
        if key.startswith("grpc-") or (secret and key == "authorization"):
            continue
        if isinstance(value, bytes):
            add(key=key, value=value)
            continue
        add(key=key, value=value.encode())
        if key == "application":
            application = value
        elif key in _IDS:
            setattr(header, _IDS[key], value)
    if header.request_id:
        checked_request_id(header.request_id)
    return application


async def _one(request: bytes) -> AsyncIterator[bytes]:
    yield request


async def _first(method: RpcMethod, messages: AsyncIterator[bytes]) -> bytes | None:
    """The request of a method that takes one; None for one that takes a stream."""
    return None if method.client_streaming else await anext(messages)


def _pairs(metadata: Iterable[session_pb2.Metadata]) -> Metadata:
    return tuple(
        (entry.key, entry.value if entry.key.endswith("-bin") else entry.value.decode("utf-8", "replace"))
        for entry in metadata
    )


def _trailing(header: session_pb2.CallHeader, metadata: session_pb2.Outcome | None) -> Metadata:
    """What ends every call: its id by both names, and what the method has set."""
    ids: Metadata = ()
    if header.request_id:
        ids = ((REQUEST_ID_KEY, header.request_id), (RAY_REQUEST_ID_KEY, header.request_id))
    return ids if metadata is None else (*ids, *_pairs(metadata.trailing_metadata))


async def _fail(context: Context, outcome: session_pb2.Outcome, header: session_pb2.CallHeader) -> NoReturn:
    code, message, trailing = grpc_status(outcome)
    await context.abort(code, message, (*_trailing(header, outcome), *trailing))
