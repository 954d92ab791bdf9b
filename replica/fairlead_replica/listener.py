"""Where a replica takes sessions: a plain Unix socket or, where it is told so, ``ReplicaService.Session`` over gRPC."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, Protocol

import grpc
import grpc.aio

from fairlead.wire.grpc_link import REPLICA_SESSION, session_handler
from fairlead.wire.link import Acceptor, Link
from fairlead.wire.local import listen_local

GRPC_SCHEME = "unix:"
"""What a place begins with that is served over gRPC."""

_OPTIONS = (("grpc.max_receive_message_length", 8 * 1024 * 1024), ("grpc.max_send_message_length", -1))


class Listener(Protocol):
    """Accepts sessions until it is closed."""

    address: str
    """What gateways dial."""

    async def close(self) -> None:
        """Stops accepting, ends the sessions, and removes the socket."""


async def listen(
    place: str, acceptor: Callable[[Any], Acceptor], *, links: set[Link], on_link: Callable[[Link], None]
) -> Listener:
    """Listens at "/path" over a plain Unix socket, at "unix:/path" over gRPC; the directory must be the owner's alone.

    ``links`` holds the sessions that are alive, ``on_link`` hears of each new one. Raises OSError if the path is not to
    be had.
    """
    if not place.startswith(GRPC_SCHEME):
        return await listen_local(place, acceptor, links=links, on_link=on_link)
    path = path_of(place)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    server = grpc.aio.server(options=_OPTIONS)
    handler = session_handler(acceptor, links=links, on_link=on_link)
    service, method = REPLICA_SESSION.strip("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    try:
        server.add_insecure_port(place)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {place}: {error}") from error
    os.chmod(path, 0o600)
    await server.start()
    return _GrpcListener(place, path, server)


def path_of(place: str) -> str:
    """The path of the socket at a place."""
    return place.removeprefix(GRPC_SCHEME)


class _GrpcListener:
    def __init__(self, address: str, path: str, server: grpc.aio.Server) -> None:
        self.address = address
        self._path = path
        self._server = server

    def __repr__(self) -> str:
        return f"<GrpcListener {self.address}>"

    async def close(self) -> None:
        await self._server.stop(None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
