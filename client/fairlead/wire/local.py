"""Sessions over a plain Unix socket: for the programs of one machine, where HTTP/2 would cost more than the calls.

The bytes: each end first sends ``GREETING``; then packets, each after its length as four bytes, big-endian. All above
is the same :class:`~fairlead.wire.link.Link` as over gRPC. Addresses are written ``wire:/path``. The measurements are
in ``docs/decisions/002-local-transport.md``.

Whoever connects must be of the same user: the socket's directory is owner-only, and on Linux the kernel is asked who
the peer is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from fairlead.v1 import session_pb2
from fairlead.wire.errors import ConnectionLostError, ProtocolViolationError
from fairlead.wire.frames import MAX_FRAME_PAYLOAD, MAX_PACKET
from fairlead.wire.large_frames import LARGE_PAYLOAD
from fairlead.wire.link import FAREWELL, Acceptor, Link

logger = logging.getLogger(__name__)

SCHEME = "wire:"
GREETING = b"fairlead.v1\n"
LONGEST_PACKET = 2 * (MAX_PACKET + MAX_FRAME_PAYLOAD)
"""Bytes of the longest packet that a peer may send."""
BUFFER = 1024 * 1024
"""Bytes that the kernel is asked to hold in each direction: a large payload then takes fewer turns of the loop."""

READ_AT_ONCE = 256 * 1024
"""Bytes that are read from a connection at once."""

_LENGTH = struct.Struct(">I")
_PREFIX = _LENGTH.size


def same_user(peer: socket.socket) -> bool:
    """Whether the process at the other end belongs to this user, or to root. Elsewhere than on Linux: True.

    There the permissions of the socket's directory alone decide.
    """
    if not sys.platform.startswith("linux"):
        return True
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (os.getuid(), 0)


class _Scratch(threading.local):
    """Where the connections of a thread read to: what comes is dealt with before anything else is read."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_AT_ONCE))


_scratch = _Scratch()


class _Pump(asyncio.BufferedProtocol):
    """Between a link and a socket: writes once per turn of the loop what the link has, gives it what comes."""

    def __init__(
        self,
        make_link: Callable[[], Link],
        on_open: Callable[[Link], None] | None = None,
        on_gone: Callable[[_Pump], None] | None = None,
    ) -> None:
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.link: Link | None = None
        self.gone = asyncio.Event()
        self._make_link = make_link
        self._on_open = on_open
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._leaving: deque[bytes | memoryview] = deque()
        self._scratch = _scratch.view
        self._kept: memoryview | None = None
        """Set while a part of a packet is here: its memory, with room for the rest."""
        self._have = 0
        self._need = len(GREETING)
        self._scheduled = False
        self._paused = False
        self._resuming: asyncio.Task[None] | None = None

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        peer = transport.get_extra_info("socket")
        if not same_user(peer):
            logger.warning("refused a connection from another user")
            transport.abort()
            return
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            peer.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        self._transport = transport
        transport.set_write_buffer_limits(high=BUFFER)
        transport.write(GREETING)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.greeted.done():
            self.greeted.set_result(None)
        if self._resuming is not None:
            self._resuming.cancel()
        if self.link is not None:
            why = f"the connection to {self.link.name} was lost: {exc}" if exc else f"{self.link.name} hung up"
            self.link.lose(ConnectionLostError(why))
        self._transport = None
        self.gone.set()
        if self._on_gone is not None:
            self._on_gone(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch if self._kept is None else self._kept[self._have :]

    def buffer_updated(self, nbytes: int) -> None:
        data = self._scratch if self._kept is None else self._kept
        have = self._have + nbytes
        start = 0
        if have >= self._need:
            if self.link is None:
                if not self._greet(bytes(data[: len(GREETING)])):
                    return
                start = len(GREETING)
            start = self._packets(data, start, have)
        self._have = rest = have - start
        if not rest:
            self._kept = None
        elif self._kept is None or len(self._kept) < self._need:
            kept = memoryview(bytearray(max(self._need, READ_AT_ONCE)))
            kept[:rest] = data[start:have]
            self._kept = kept
        elif start:
            data[:rest] = data[start:have]

    def _packets(self, data: memoryview, start: int, end: int) -> int:
        """Gives the link all whole packets; where the next one starts. Sets how much is needed for it."""
        link = self.link
        assert link is not None
        self._need = _PREFIX
        while end - start >= _PREFIX:
            (size,) = _LENGTH.unpack_from(data, start)
            if size > LONGEST_PACKET:
                link.fail(ProtocolViolationError(f"a packet of {size} bytes; the limit is {LONGEST_PACKET}"))
                return end
            stop = start + _PREFIX + size
            if stop > end:
                self._need = _PREFIX + size
                break
            link.receive(data[start + _PREFIX : stop])
            start = stop
        if link.congested and self._resuming is None and self._transport is not None:
            self._transport.pause_reading()
            self._resuming = self._loop.create_task(self._resume(link))
        return start

    async def _resume(self, link: Link) -> None:
        await link.room()
        self._resuming = None
        if self._transport is not None:
            self._transport.resume_reading()

    def _greet(self, data: bytes) -> bool:
        assert self._transport is not None
        if not data.startswith(GREETING):
            logger.warning("a peer does not speak this protocol: it is disconnected")
            self._transport.abort()
            return False
        self.link = link = self._make_link()
        link.on_outbox = self._schedule
        self.greeted.set_result(None)
        if self._on_open is not None:
            self._on_open(link)
        return True

    def hang_up(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- the link's side

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_scheduled)
        elif self.link is not None and self.link.enough:
            self._flush()

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        link, transport = self.link, self._transport
        if link is None or transport is None:
            return
        while not self._paused:
            if not self._leaving:
                parts = link.take_parts()
                if not parts:
                    break
                if len(parts) == 1:
                    transport.write(_LENGTH.pack(len(parts[0])) + parts[0])
                    continue
                self._leaving.extend(_coalesce(parts))
            while self._leaving and not self._paused:
                transport.write(self._leaving.popleft())
        if link.closed:
            transport.close()  # what was written still goes out
            self._loop.call_later(FAREWELL, transport.abort)


def _coalesce(parts: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """A packet with its length in front, in as few writes as copying of small parts only allows."""
    small: list[bytes | memoryview] = [_LENGTH.pack(sum(map(len, parts)))]
    for part in parts:
        if len(part) < LARGE_PAYLOAD:
            small.append(part)
            continue
        yield b"".join(small)
        yield part
        small.clear()
    if small:
        yield b"".join(small)


async def connect_local(
    path: str,
    *,
    timeout_s: float = 10.0,
    on_load: Callable[[session_pb2.Load], None] | None = None,
    max_calls: int | None = None,
) -> Link:
    """Opens a session with the listener at a path. Returns when it has greeted back.

    Raises ConnectionLostError if nobody listens, or does not greet within ``timeout_s`` seconds.
    """
    name = f"{SCHEME}{path}"
    loop = asyncio.get_running_loop()
    try:
        transport, pump = await loop.create_unix_connection(
            lambda: _Pump(lambda: Link(name=name, on_load=on_load, max_calls=max_calls)), path
        )
    except OSError as error:
        raise ConnectionLostError(f"cannot reach {name}: {error.strerror or error}") from error
    try:
        await asyncio.wait_for(asyncio.shield(pump.greeted), timeout_s)
    except TimeoutError as error:
        raise ConnectionLostError(f"cannot reach {name}: no answer within {timeout_s} s") from error
    finally:
        if pump.link is None:
            transport.abort()
    link = pump.link
    if link is None:
        raise ConnectionLostError(f"{name} refused the session")

    async def shutdown() -> None:
        await pump.gone.wait()

    link.on_close = shutdown
    return link


class LocalListener:
    """Accepts sessions on a Unix socket."""

    def __init__(self, path: str, server: asyncio.AbstractServer, pumps: set[_Pump]) -> None:
        self.path = path
        self.address = f"{SCHEME}{path}"
        self._server = server
        self._pumps = pumps

    def __repr__(self) -> str:
        return f"<LocalListener {self.path} sessions={len(self._pumps)}>"

    async def close(self) -> None:
        """Stops accepting, ends the sessions, and removes the socket."""
        self._server.close()
        pumps = list(self._pumps)
        for pump in pumps:
            if pump.link is not None:
                pump.link.lose(ConnectionLostError("the listener was closed"))
            else:
                pump.hang_up()
        for pump in pumps:
            await pump.gone.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


async def listen_local(
    path: str,
    acceptor: Callable[[Any], Acceptor],
    *,
    load: Callable[[], session_pb2.Load] | None = None,
    links: set[Link] | None = None,
    on_link: Callable[[Link], None] | None = None,
    max_calls: int | None = None,
) -> LocalListener:
    """Listens on a Unix socket in an owner-only directory; a socket that is left over there is replaced.

    ``acceptor`` is called once per session, with None. ``links``, if given, holds the sessions that are alive;
    ``on_link`` hears of each new one. Raises OSError if the path is not to be had.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    pumps: set[_Pump] = set()

    def make_pump() -> _Pump:
        pump = _Pump(
            lambda: Link(acceptor=acceptor(None), load=load, name="a local peer", max_calls=max_calls), opened, gone
        )
        pumps.add(pump)
        return pump

    def opened(link: Link) -> None:
        if links is not None:
            links.add(link)
        if on_link is not None:
            on_link(link)

    def gone(pump: _Pump) -> None:
        pumps.discard(pump)
        if links is not None and pump.link is not None:
            links.discard(pump.link)

    server = await asyncio.get_running_loop().create_unix_server(make_pump, path)
    os.chmod(path, 0o600)
    return LocalListener(path, server, pumps)
