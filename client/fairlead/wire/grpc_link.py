"""Sessions over grpc.aio: two pumps between a :class:`~fairlead.wire.link.Link` and a bidirectional stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from fairlead.v1 import session_pb2
from fairlead.wire.errors import ConnectionLostError, FairleadError, ProtocolViolationError, UnauthenticatedError
from fairlead.wire.link import FAREWELL, Acceptor, Link

SERVING_SESSION = "/fairlead.v1.ServingService/Session"
REPLICA_SESSION = "/fairlead.v1.ReplicaService/Session"

CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


async def connect(
    address: str,
    path: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    metadata: tuple[tuple[str, str], ...] = (),
    timeout_s: float = 10.0,
    on_load: Callable[[session_pb2.Load], None] | None = None,
    max_calls: int | None = None,
) -> Link:
    """Opens a session with the server at ``address`` ("unix:/path" or "host:port").

    Returns when the server has taken it. Raises ConnectionLostError if it does not within ``timeout_s`` seconds,
    UnauthenticatedError if it does not let the caller in. ``path`` is SERVING_SESSION or REPLICA_SESSION.
    """
    if credentials is None:
        channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    else:
        channel = grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
    call: Any = channel.stream_stream(path)(metadata=metadata)
    try:
        await asyncio.wait_for(call.initial_metadata(), timeout_s)
        if call.done():
            raise _refusal(address, await call.code(), await call.details())
    except TimeoutError as error:
        await channel.close()
        raise ConnectionLostError(f"cannot reach {address}: no answer within {timeout_s} s") from error
    except grpc.aio.AioRpcError as error:
        await channel.close()
        raise _refusal(address, error.code(), error.details()) from error
    except BaseException:
        await channel.close()
        raise
    link = Link(name=address, on_load=on_load, max_calls=max_calls)
    keeper = link._keeper = asyncio.create_task(_keep(link, channel, call))

    async def shutdown() -> None:
        call.cancel()
        await asyncio.shield(keeper)

    link.on_close = shutdown
    return link


def _refusal(address: str, code: grpc.StatusCode, details: str | None) -> FairleadError:
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return UnauthenticatedError(
            f"{address} does not let this program in: {details}; set FAIRLEAD_TOKEN to the instance's"
        )
    if code is grpc.StatusCode.UNAVAILABLE:
        return ConnectionLostError(f"cannot reach {address}: {details}")
    return ConnectionLostError(f"{address} refused the session: {code.name}: {details}")


async def _keep(link: Link, channel: grpc.aio.Channel, call: Any) -> None:
    """An opener's life: runs its two pumps, and closes everything when the link is over."""
    pumps = [asyncio.create_task(_write_to(link, call)), asyncio.create_task(_read_from(link, call))]
    try:
        await link.wait_closed()
        await asyncio.wait(pumps, timeout=FAREWELL)
    finally:
        link.lose(ConnectionLostError("the connection was closed"))  # if this task was cancelled
        call.cancel()
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
        await channel.close()


async def _write_to(link: Link, call: Any) -> None:
    try:
        while packet := await link.packet():
            await call.write(packet)
        await call.done_writing()
    except Exception as error:  # whatever ends the stream ends the session
        link.lose(ConnectionLostError(f"the connection to {link.name} was lost: {_detail(error)}"))


async def _read_from(link: Link, call: Any) -> None:
    try:
        while (packet := await call.read()) is not grpc.aio.EOF:
            link.receive(packet)
        link.lose(ConnectionLostError(f"{link.name} closed the connection"))
    except Exception as error:  # whatever ends the stream ends the session
        link.lose(ConnectionLostError(f"the connection to {link.name} was lost: {_detail(error)}"))


def _detail(error: BaseException) -> str:
    return str(error.details()) if isinstance(error, grpc.aio.AioRpcError) else str(error)


def session_handler(
    make_acceptor: Callable[[grpc.aio.ServicerContext[Any, Any]], Acceptor],
    *,
    load: Callable[[], session_pb2.Load] | None = None,
    links: set[Link] | None = None,
    on_link: Callable[[Link], None] | None = None,
    max_calls: int | None = None,
) -> grpc.RpcMethodHandler[Any, Any]:
    """The handler of a ``Session`` method, for bytes.

    ``make_acceptor`` is called once per session. ``links``, if given, holds the sessions that are alive; ``on_link``
    hears of each new one.
    """

    async def handle(requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        # A coroutine that writes, not a generator that yields: when the call is cancelled, it ends here and now.
        link = Link(acceptor=make_acceptor(context), load=load, name=context.peer() or "session", max_calls=max_calls)
        await context.send_initial_metadata(())  # tells the opener that the session stands
        reader = asyncio.create_task(_read_requests(link, context))
        if links is not None:
            links.add(link)
        try:
            if on_link is not None:
                on_link(link)
            while packet := await link.packet():
                await context.write(packet)
            if isinstance(link.lost, ProtocolViolationError):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, link.lost.message)
        finally:
            if links is not None:
                links.discard(link)
            link.lose(ConnectionLostError("the peer closed the session"))
            reader.cancel()
            await asyncio.wait({reader})

    return grpc.stream_stream_rpc_method_handler(handle)


async def _read_requests(link: Link, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    try:
        while not link.closed and (packet := await context.read()) is not grpc.aio.EOF:
            link.receive(packet)
            if link.congested:
                await link.room()
        link.lose(ConnectionLostError("the peer closed the session"))
    except Exception as error:  # whatever ends the stream ends the session; the handler cleans up
        link.lose(ConnectionLostError(f"the session broke: {_detail(error)}"))
