"""Any bytes on a connection: nothing is logged, no answer is a 500, nobody hangs, and others are served."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.http_door import HttpDoor, HttpLimits
from tests.edge.fuzz import requests, stage

PATIENCE_S = 60
GOOD = b"GET /-/routes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


class Door:
    """A door on a loop of its own."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._door = self._loop.run_until_complete(self._make())
        host, _, port = self._loop.run_until_complete(self._door.start()).rpartition(":")
        self._address = host, int(port)

    async def _make(self) -> HttpDoor:
        return HttpDoor(stage.router(), TcpListener(), limits=HttpLimits(max_body_bytes=3000, max_head_bytes=4000))

    def exchange(self, data: bytes) -> bytes:
        """Sends bytes on a connection of its own, ends it, and gives all that comes back."""
        return self._loop.run_until_complete(asyncio.wait_for(self._exchange(data), PATIENCE_S))

    async def _exchange(self, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.write(data)
            writer.write_eof()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def close(self) -> None:
        self._loop.run_until_complete(self._door.stop(1))
        self._runner.close()


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=300) | requests.raw_requests())
@example(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef")
@example(b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 5000)
@example(b"POST /web.v1.EchoService/Chat HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n")
def test_any_bytes(door: Door, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    caplog.clear()
    answer = door.exchange(data)
    logged = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert not logged, "strangers could fill the log"
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert not re.search(rb"HTTP/1\.1 500 ", answer)
    assert door.exchange(GOOD).startswith(b"HTTP/1.1 200 ")
