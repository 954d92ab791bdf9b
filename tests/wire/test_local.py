"""What the plain Unix socket has beyond the conformance in test_link.py: greeting, framing, who may connect."""

from __future__ import annotations

import asyncio
import os
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire import local as local_module
from fairlead.wire.dial import dial
from fairlead.wire.errors import ConnectionLostError
from fairlead.wire.grpc_link import SERVING_SESSION
from fairlead.wire.large_frames import decode_packet
from fairlead.wire.local import GREETING, LONGEST_PACKET, LocalListener, connect_local, listen_local
from fairlead.wire.session import Session
from tests.wire.calls import PATIENCE, Caller, Service, header, until
from tests.wire.frame_making import OWNER


@pytest.fixture
async def service(tidy: None) -> AsyncIterator[Service]:
    made = Service()
    yield made
    for task in made.tasks:
        task.cancel()


@pytest.fixture
async def listener(directory: Path, service: Service) -> AsyncIterator[LocalListener]:
    made = await listen_local(f"{directory}/s", lambda _: service.accept)
    yield made
    await made.close()


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), PATIENCE)


async def test_dial_takes_its_addresses(listener: LocalListener):
    link = await dial(listener.address, SERVING_SESSION)
    assert await Caller().open(link, payload=b"x").result() == b"x"
    await link.close()


async def test_the_socket_is_the_owners(listener: LocalListener):
    assert stat.S_IMODE(Path(listener.path).stat().st_mode) == 0o600


async def test_another_user_is_refused(listener: LocalListener, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local_module, "same_user", lambda peer: False)
    with pytest.raises(ConnectionLostError):
        await connect_local(listener.path)


async def test_nobody_listens(directory: Path):
    with pytest.raises(ConnectionLostError, match=r"cannot reach wire:.*No such file"):
        await connect_local(f"{directory}/nobody")


async def test_a_listener_that_does_not_greet(directory: Path, tidy: None):
    connected = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(silent, f"{directory}/s")
    with pytest.raises(ConnectionLostError, match="no answer within"):
        await connect_local(f"{directory}/s", timeout_s=0.05)
    assert connected.is_set()
    server.close()


async def test_a_peer_that_speaks_something_else_is_disconnected(listener: LocalListener, service: Service):
    reader, writer = await asyncio.open_unix_connection(listener.path)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert await read_to_end(reader) in (GREETING, b"")
    writer.close()
    assert service.calls == []


async def test_a_packet_that_is_too_long_ends_the_session_with_a_reason(listener: LocalListener):
    other = await connect_local(listener.path)
    reader, writer = await asyncio.open_unix_connection(listener.path)
    writer.write(GREETING + struct.pack(">I", LONGEST_PACKET + 1))
    assert b"the limit is" in await read_to_end(reader)
    writer.close()
    assert await Caller().open(other, payload=b"still here").result() == b"still here"
    await other.close()


async def test_packets_may_come_in_pieces_of_any_size(listener: LocalListener, service: Service):
    link = await connect_local(listener.path)
    caller = Caller().open(link, payload=b"p" * 5000)
    packet = link.take()
    caller_bytes = struct.pack(">I", len(packet)) + packet
    reader, writer = await asyncio.open_unix_connection(listener.path)
    for byte in GREETING + caller_bytes * 1:
        writer.write(bytes([byte]))
        await writer.drain()
    assert await asyncio.wait_for(reader.readexactly(len(GREETING)), PATIENCE) == GREETING
    (size,) = struct.unpack(">I", await asyncio.wait_for(reader.readexactly(4), PATIENCE))
    assert b"p" * 5000 in await asyncio.wait_for(reader.readexactly(size), PATIENCE)
    writer.close()
    caller.stream.link.cancel(caller.stream)
    await link.close()


@pytest.mark.parametrize("chunk", [1021, 65536, 10**6])
async def test_packets_small_and_large_in_chunks_of_any_size(listener: LocalListener, chunk: int):
    """What comes is read into memory that connections share: nothing of one read may end up in another."""
    session = Session(opener=True)
    messages = [bytes([number + 1]) * size for number, size in enumerate((10, 120_000, 3, 20_000, 130_000, 0, 5000))]
    stream = bytearray(GREETING)
    for message in messages:
        session.open(header(), message, OWNER)
        if len(message) != 120_000:  # that one shares a packet with the next
            packet = session.take()
            stream += struct.pack(">I", len(packet)) + packet
    reader, writer = await asyncio.open_unix_connection(listener.path)
    for start in range(0, len(stream), chunk):
        writer.write(stream[start : start + chunk])
        await writer.drain()
    assert await asyncio.wait_for(reader.readexactly(len(GREETING)), PATIENCE) == GREETING
    answers: dict[int, bytes] = {}
    while len(answers) < len(messages):
        (size,) = struct.unpack(">I", await asyncio.wait_for(reader.readexactly(4), PATIENCE))
        for frame in decode_packet(await asyncio.wait_for(reader.readexactly(size), PATIENCE))[0]:
            assert frame.kind in (session_pb2.FRAME_KIND_DATA, session_pb2.FRAME_KIND_END)
            answers[frame.call_id] = answers.get(frame.call_id, b"") + frame.payload
    assert answers == dict(enumerate(messages, 1))
    writer.close()


async def test_a_peer_that_vanishes_in_the_middle_of_a_packet(listener: LocalListener, service: Service):
    link = await connect_local(listener.path)
    held = Caller().open(link, "hold")
    await until(lambda: service.calls)
    _, writer = await asyncio.open_unix_connection(listener.path)
    writer.write(GREETING + struct.pack(">I", 1000) + b"half")
    await writer.drain()
    writer.close()
    await until(lambda: "sessions=1" in repr(listener))
    service.calls[0].stream.link.end(service.calls[0].stream, None, b"r")
    assert await held.result() == b"r"
    await link.close()


async def test_a_socket_that_was_left_over_is_replaced_and_removed_at_the_end(directory: Path, tidy: None):
    path = directory / "s"
    path.touch()
    listener = await listen_local(str(path), lambda _: Service().accept)
    assert path.is_socket()
    await listener.close()
    assert not os.path.lexists(path)
