"""How long a client that reads slowly, or not at all, is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead_gateway.edge.binding import TcpListener, Tls
from fairlead_gateway.edge.http_connection import Patience
from fairlead_gateway.edge.http_door import HttpDoor
from fairlead_gateway.edge.http_limits import HttpLimits
from tests.certificates import make_certificates
from tests.edge.fake_router import FakeCall, FakeRouter, application
from tests.edge.test_http import response

LIMITS = HttpLimits(write_timeout_s=10.0, min_body_rate=100.0)
"""Ten seconds, in which 1,000 bytes must be read."""


class Timer:
    def __init__(self, delay: float, due: Callable[[], None]) -> None:
        self.delay = delay
        self.due = due
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Transport:
    """One with a client that reads what the test says. No system counts it."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.closing = False
        self.aborted = False

    def get_extra_info(self, name: str) -> Any:
        return None

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.closing

    def read(self, amount: int) -> None:
        self.waiting -= amount

    def abort(self) -> None:
        self.aborted = True


class TlsTransport(Transport):
    """One whose own buffer does not show what still waits below it. The system counts what the client takes."""

    taken = 1 << 40

    def get_extra_info(self, name: str) -> Any:
        return {"socket": self}[name]

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return (bytes(120) + struct.pack("=Q", self.taken) + bytes(200))[:size]

    def read(self, amount: int) -> None:
        self.taken += amount


class Stage:
    def __init__(self, waiting: int, kind: type[Transport] = Transport) -> None:
        self.timers: list[Timer] = []
        self.transport: Any = kind(waiting)
        self.patience = Patience(self.transport, LIMITS, self._call_later)

    def _call_later(self, delay: float, due: Callable[[], None]) -> Any:
        self.timers.append(Timer(delay, due))
        return self.timers[-1]

    def pass_time(self, read: int) -> None:
        """The time is over; so much was read in it."""
        timer = self.timers.pop()
        assert (timer.delay, timer.cancelled, self.timers) == (10.0, False, [])
        self.transport.read(read)
        timer.due()


@pytest.mark.parametrize("kind", [Transport, TlsTransport])
@pytest.mark.parametrize("read", [0, 1, 999])
def test_one_that_does_not_read_is_given_up(read: int, kind: type[Transport]) -> None:
    stage = Stage(100_000, kind)
    stage.patience.begin()
    stage.pass_time(read)
    assert stage.transport.aborted
    assert stage.timers == []


@pytest.mark.parametrize("kind", [Transport, TlsTransport])
def test_one_that_reads_slowly_is_not(kind: type[Transport]) -> None:
    stage = Stage(5_000, kind)
    stage.patience.begin()
    for _ in range(4):
        stage.pass_time(1000)
        assert not stage.transport.aborted
    stage.pass_time(0)
    assert stage.transport.aborted


def test_one_that_closes_is_waited_for_as_long_as_it_takes_something() -> None:
    stage = Stage(0, TlsTransport)
    stage.transport.closing = True
    stage.patience.begin()
    stage.pass_time(1000)
    assert not stage.transport.aborted
    stage.pass_time(0)
    assert stage.transport.aborted


def test_one_that_has_read_everything_is_not_waited_for() -> None:
    stage = Stage(10)
    stage.patience.begin()
    stage.pass_time(10)
    assert not stage.transport.aborted
    assert stage.timers == []


def test_one_that_reads_again_has_all_its_time_the_next_time() -> None:
    stage = Stage(100_000)
    stage.patience.begin()
    stage.patience.end()
    assert stage.timers.pop().cancelled
    stage.patience.end()
    stage.patience.begin()
    stage.patience.begin()
    stage.pass_time(1000)
    assert not stage.transport.aborted


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("pki"))


BODY = bytes(6_000_000)
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
WEBSOCKET = (
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n\r\n"
)


class TestOverTls:
    """Beneath TLS there is a buffer more than the transport shows, and a time for saying goodbye."""

    @contextlib.asynccontextmanager
    async def served(self, pki: Path, **limits: float) -> AsyncIterator[tuple[HttpDoor, socket.socket, ssl.SSLContext]]:
        """A door, and a client that takes little at once and has not said hello yet."""

        def behave(call: FakeCall) -> None:
            call.end(None, response(body=BODY))

        router = FakeRouter(behave)
        router.deploy(application())
        tls = Tls(certificate_file=str(pki / "server.pem"), key_file=str(pki / "server.key"))
        door = HttpDoor(router, TcpListener(tls=tls), limits=HttpLimits(**limits))  # type: ignore[arg-type]
        host, _, port = (await door.start()).rpartition(":")
        with socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            plain.setblocking(False)
            await asyncio.get_running_loop().sock_connect(plain, (host, int(port)))
            try:
                yield door, plain, ssl.create_default_context(cafile=str(pki / "ca.pem"))
            finally:
                await door.stop(1)

    @pytest.mark.parametrize("field", [b"", b"connection: close\r\n"])
    async def test_a_slow_reader_gets_everything(
        self, field: bytes, pki: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("asyncio.constants.SSL_SHUTDOWN_TIMEOUT", 0.05)
        async with self.served(pki, keep_alive_timeout_s=0.05, write_timeout_s=0.5) as (door, plain, context):
            reader, writer = await asyncio.open_connection(sock=plain, ssl=context, server_hostname="localhost")
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n%b\r\n" % field)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            (connection,) = door._server.server_state.connections  # type: ignore[union-attr]
            while not connection.transport.is_closing():  # type: ignore[union-attr]
                await asyncio.sleep(0.005)
            taken = 0
            while piece := await asyncio.wait_for(reader.read(100_000), 60):
                taken += len(piece)
                await asyncio.sleep(0.005)
            assert (head.startswith(b"HTTP/1.1 200 "), taken) == (True, len(BODY))
            writer.close()

    @pytest.mark.parametrize(("request_", "goodbye"), [(GET, False), (GET, True), (WEBSOCKET, False)])
    async def test_one_that_does_not_go_on_is_given_up(self, request_: bytes, goodbye: bool, pki: Path) -> None:
        async with self.served(pki, keep_alive_timeout_s=0.05, write_timeout_s=0.2) as (door, plain, context):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            loop = asyncio.get_running_loop()
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await loop.sock_sendall(plain, outgoing.read())
                    incoming.write(await asyncio.wait_for(loop.sock_recv(plain, 65_536), 60))
            connections = door._server.server_state.connections  # type: ignore[union-attr]
            client.write(request_)
            await loop.sock_sendall(plain, outgoing.read())
            assert await asyncio.wait_for(loop.sock_recv(plain, 1), 60)  # the answer has begun
            if goodbye:
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.unwrap()
                await loop.sock_sendall(plain, outgoing.read())
            assert connections
            while connections:
                await asyncio.sleep(0.005)
