"""What only links over grpc.aio do: connecting, statuses, transports that break, loops that end."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from fairlead.wire import grpc_link as grpc_module
from fairlead.wire.errors import ConnectionLostError, ProtocolViolationError
from fairlead.wire.grpc_link import REPLICA_SESSION, SERVING_SESSION, connect, session_handler
from fairlead.wire.large_frames import decode_packet
from fairlead.wire.outcomes import error_of, outcome_of
from tests.wire.calls import PATIENCE, Caller, until
from tests.wire.conftest import Grpc
from tests.wire.frame_making import kinds

VIOLATION = b"\x0a\x02\x10\x63"


async def serve(address: str, handle: Callable[..., Any]) -> grpc.aio.Server:
    """A server whose Session method is ``handle``."""
    handler = grpc.stream_stream_rpc_method_handler(handle)
    server = grpc.aio.server()
    server.add_registered_method_handlers("fairlead.v1.ServingService", {"Session": handler})
    server.add_insecure_port(address)
    await server.start()
    return server


# -- connecting


async def test_a_missing_socket(directory: Path, tidy: None):
    with pytest.raises(ConnectionLostError, match=f"cannot reach unix:{directory}/none: .*No such file"):
        await connect(f"unix:{directory}/none", SERVING_SESSION)


async def test_a_server_without_the_method(over_grpc: Grpc):
    await over_grpc.serve()
    with pytest.raises(ConnectionLostError, match=r"refused the session: UNIMPLEMENTED: Method not found"):
        await connect(over_grpc.address, REPLICA_SESSION)


async def test_a_server_that_refuses(over_grpc: Grpc):
    async def refuse(requests, context):
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    server = await serve(over_grpc.address, refuse)
    with pytest.raises(ConnectionLostError, match="refused the session: PERMISSION_DENIED: not you"):
        await connect(over_grpc.address, SERVING_SESSION)
    await server.stop(None)


@pytest.fixture
def silent(directory: Path) -> Iterator[str]:
    """The address of a socket that takes connections and never says a word."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/s")
        listener.listen()
        yield f"unix:{directory}/s"


async def test_a_server_that_says_nothing(silent: str, tidy: None):
    with pytest.raises(ConnectionLostError, match="no answer within"):
        await connect(silent, SERVING_SESSION, timeout_s=0.05)


async def test_connecting_can_be_cancelled(silent: str, tidy: None):
    connecting = asyncio.create_task(connect(silent, SERVING_SESSION))
    for _ in range(50):
        await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting


# -- violations


async def raw_session(address: str):
    channel = grpc.aio.insecure_channel(address)
    call = channel.stream_stream(SERVING_SESSION)()
    await asyncio.wait_for(call.initial_metadata(), PATIENCE)
    return channel, call


async def test_a_violation_is_answered_with_goodbye_and_a_status(over_grpc: Grpc):
    await over_grpc.serve()
    channel, call = await raw_session(over_grpc.address)
    await call.write(VIOLATION)
    (goodbye,), _ = decode_packet(await asyncio.wait_for(call.read(), PATIENCE))
    assert kinds([goodbye]) == ["GOODBYE"]
    assert isinstance(error_of(goodbye.outcome), ProtocolViolationError)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await asyncio.wait_for(call.read(), PATIENCE)
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "never opened" in ended.value.details()
    await channel.close()
    await until(lambda: not over_grpc.alive)


async def test_an_openers_goodbye_reaches_the_server_before_the_stream_ends(over_grpc: Grpc, directory: Path):
    packets: list[bytes] = []
    ended: list[object] = []

    async def misbehave(requests, context):
        await context.send_initial_metadata(())
        await context.write(VIOLATION)
        while (packet := await context.read()) is not grpc.aio.EOF:
            packets.append(packet)
        ended.append(True)

    server = await serve(over_grpc.address, misbehave)
    link = await connect(over_grpc.address, SERVING_SESSION)
    await asyncio.wait_for(link.wait_closed(), PATIENCE)
    assert isinstance(link.lost, ProtocolViolationError)
    await until(lambda: ended)
    (goodbye,), _ = decode_packet(b"".join(packets))
    assert kinds([goodbye]) == ["GOODBYE"]
    assert isinstance(error_of(goodbye.outcome), ProtocolViolationError)
    await link.close()
    await server.stop(None)


# -- transports that break


async def test_a_client_that_cancels_or_half_closes_its_stream(over_grpc: Grpc):
    await over_grpc.serve()
    for leave in ("cancel", "half-close", "close the channel"):
        channel, call = await raw_session(over_grpc.address)
        link = await asyncio.wait_for(over_grpc.accepted.get(), PATIENCE)
        if leave == "cancel":
            call.cancel()
        elif leave == "half-close":
            await call.done_writing()
            assert await asyncio.wait_for(call.read(), PATIENCE) is grpc.aio.EOF
        else:
            await channel.close()
        await asyncio.wait_for(link.wait_closed(), PATIENCE)
        await until(lambda: not over_grpc.alive)
        await channel.close()


async def test_a_server_that_stops(over_grpc: Grpc):
    opener, _ = await over_grpc.pair()
    calls = [Caller().open(opener, "items") for _ in range(3)]
    await calls[0].get()
    await over_grpc.server.stop(None)
    for call in calls:
        error = error_of(await call.outcome())
        assert isinstance(error, ConnectionLostError)
    assert opener.closed
    await until(lambda: all(callee.cancelled.is_set() for callee in over_grpc.service.calls))


SERVER = """
import asyncio, sys
from tests.wire.conftest import Grpc

async def main():
    transport = Grpc(sys.argv[1])
    await transport.serve()
    print("serving", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_server_that_is_killed_in_the_middle_of_a_message(directory: Path, tidy: None):
    address = f"unix:{directory}/s"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, address, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"serving\n"
    link = await connect(address, SERVING_SESSION)
    call = Caller().open(link, "items")
    await call.get()
    upload = Caller().open(link, "hold", bytes(4 * 1024 * 1024), last=False)
    process.send_signal(signal.SIGKILL)
    for each in (call, upload):
        assert isinstance(error_of(await each.outcome()), ConnectionLostError)
    assert link.closed
    await asyncio.wait_for(link.close(), PATIENCE)
    await process.wait()


async def test_closing_twice_and_at_once(over_grpc: Grpc):
    opener, acceptor = await over_grpc.pair()
    await asyncio.wait_for(asyncio.gather(opener.close(), opener.close()), PATIENCE)
    await opener.close()
    await asyncio.wait_for(acceptor.wait_closed(), PATIENCE)
    await acceptor.close()


async def test_a_farewell_that_the_server_does_not_take_is_given_up(over_grpc: Grpc, monkeypatch):
    monkeypatch.setattr(grpc_module, "FAREWELL", 0.01)
    released = asyncio.Event()

    async def deaf(requests, context):
        await context.send_initial_metadata(())
        await released.wait()

    server = await serve(over_grpc.address, deaf)
    link = await connect(over_grpc.address, SERVING_SESSION)
    link.fail(ConnectionLostError("had enough"))
    await asyncio.wait_for(asyncio.shield(link._keeper), PATIENCE)
    released.set()
    await server.stop(None)


async def test_handlers_keep_track_of_links(over_grpc: Grpc):
    opener, acceptor = await over_grpc.pair()
    assert over_grpc.alive == {acceptor}
    await opener.close()
    await until(lambda: not over_grpc.alive)


async def test_a_defect_while_accepting_a_session_refuses_it(over_grpc: Grpc, caplog):
    def broken(context: object):
        raise RuntimeError("a defect in make_acceptor")

    server = grpc.aio.server()
    server.add_registered_method_handlers("fairlead.v1.ServingService", {"Session": session_handler(broken)})
    server.add_insecure_port(over_grpc.address)
    await server.start()
    with pytest.raises(ConnectionLostError, match="a defect in make_acceptor"):
        await connect(over_grpc.address, SERVING_SESSION)
    await server.stop(None)
    assert "a defect in make_acceptor" in caplog.text
    caplog.clear()


# -- loops that end


FORGETFUL = """
import asyncio, sys
from fairlead.wire.grpc_link import connect, SERVING_SESSION
from tests.wire.conftest import Grpc
from tests.wire.calls import Caller

async def main():
    transport = Grpc(sys.argv[1])
    opener, acceptor = await transport.pair()
    call = Caller().open(opener, "items")
    await call.get()
    if sys.argv[2] == "stopped":
        await transport.server.stop(None)
    else:
        await opener.close()
        await transport.server.stop(None)

asyncio.run(main())
print("fine")
"""


CANCELLED_IN_GRPC = re.compile(
    r'Traceback \(most recent call last\):\n  File "src/python/grpcio/[^\n]*\n(?:    [^\n]*\n)*'
    r"asyncio\.exceptions\.CancelledError\n"
)
"""What grpc.aio prints of a handler of its own that the end of the loop cancels: none of our frames are in it."""


@pytest.mark.parametrize("how", ["stopped", "closed"])
async def test_a_loop_may_end_right_after(directory: Path, how: str):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", "-c", FORGETFUL, f"unix:{directory}/s", how),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    output, errors = await asyncio.wait_for(process.communicate(), 3 * PATIENCE)
    told = CANCELLED_IN_GRPC.sub("", errors.decode())
    lines = [line for line in told.splitlines() if "Got goaway" not in line]  # the C core's own log
    assert (output, lines) == (b"fine\n", [])


async def test_a_peer_that_sends_a_reason_gets_the_same_back(over_grpc: Grpc):
    opener, acceptor = await over_grpc.pair()
    reason = ProtocolViolationError("made up")
    acceptor.fail(reason)
    await asyncio.wait_for(opener.wait_closed(), PATIENCE)
    assert type(opener.lost) is ProtocolViolationError
    assert opener.lost.message == "made up"
    assert outcome_of(opener.lost, trusted=False) == outcome_of(reason, trusted=False)
