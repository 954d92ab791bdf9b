"""The process's session: over a socket, after a fork, and how often the loops wake each other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
from importlib.metadata import version
from pathlib import Path

import grpc.aio
import pytest

import fairlead
from fairlead.serve import connection
from fairlead.serve.connection import Connection
from fairlead.serve.deliveries import Deliveries
from fairlead.serve.handle import DeploymentHandle
from fairlead.wire.grpc_link import SERVING_SESSION, session_handler
from fairlead.wire.trust import Trust
from tests.serve.fake_gateway import FakeGateway

TIMEOUT_S = 60


def test_the_version():
    assert fairlead.__version__ == version("fairlead")


class _Sessions(grpc.GenericRpcHandler):
    def __init__(self, gateway: FakeGateway) -> None:
        self.handler = session_handler(lambda *_: gateway.accept)

    def service(self, details):
        return self.handler if details.method == SERVING_SESSION else None


@pytest.mark.parametrize("first_is_there", [True, False])
async def test_over_a_socket(first_is_there):
    """Also where the gateway worker that it would use first is away, and another is there."""
    gateway = FakeGateway()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Sessions(gateway),))
    with tempfile.TemporaryDirectory() as directory:
        address = f"unix:{Path(directory) / 's'}"
        server.add_insecure_port(address)
        await server.start()
        mine = Connection()
        addresses = (address, ()) if first_is_there else (f"unix:{directory}/nobody", (address,))
        mine.set_address(addresses[0], Trust.OWNER, alternates=addresses[1])
        before = connection.use(mine)
        try:
            handle = DeploymentHandle("Echo", "app")
            assert await asyncio.gather(*(handle.remote(n) for n in range(100))) == list(range(100))
            assert await asyncio.to_thread(handle.remote("x").result) == "x"
        finally:
            await asyncio.to_thread(mine.close)
            connection.use(before)
            await server.stop(0)


def test_after_a_close_a_new_address_starts_again(gateway, handle):
    assert handle.remote(1).result() == 1
    connection.close()
    connection.set_address("unix:/fake", Trust.OWNER)
    assert handle.remote(2).result(timeout_s=TIMEOUT_S) == 2


def test_use_loop_comes_first(gateway, handle):
    assert handle.remote(1).result() == 1
    loop = asyncio.new_event_loop()
    with pytest.raises(RuntimeError, match="before the first call"):
        connection.use_loop(loop)
    loop.close()


class _CountingLoop:
    """A loop that counts how often it is woken from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = loop
        self.wakes = 0

    def call_soon_threadsafe(self, *args):
        self.wakes += 1
        return self.inner.call_soon_threadsafe(*args)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_a_burst_of_calls_wakes_the_wire_loop_once(gateway, handle):
    assert handle.remote(0).result() == 0
    mine = connection.current()
    entered, go_on = threading.Event(), threading.Event()

    def block():
        entered.set()
        go_on.wait(TIMEOUT_S)

    mine.post(block)
    assert entered.wait(TIMEOUT_S)
    mine.loop = counting = _CountingLoop(mine.loop)
    responses = [handle.remote(n) for n in range(100)]
    assert counting.wakes == 1
    go_on.set()
    assert [response.result(timeout_s=TIMEOUT_S) for response in responses] == list(range(100))
    mine.loop = counting.inner


class _Future:
    def __init__(self, loop):
        self.loop = loop

    def get_loop(self):
        return self.loop


class _RecordingLoop:
    def __init__(self):
        self.soon = []
        self.threadsafe = []
        self.closed = False

    def call_soon(self, function):
        self.soon.append(function)

    def call_soon_threadsafe(self, function, futures):
        if self.closed:
            raise RuntimeError("closed")
        self.threadsafe.append(futures)


def test_results_hop_once_per_loop():
    wire, one, other = _RecordingLoop(), _RecordingLoop(), _RecordingLoop()
    other.closed = True
    deliveries = Deliveries(wire)
    futures = [_Future(loop) for loop in (one, other, one, one)]
    for future in futures:
        deliveries.resolve(future)
    (flush,) = wire.soon
    flush()
    assert one.threadsafe == [[futures[0], futures[2], futures[3]]]


def test_after_a_fork():
    script = (
        "import os, sys\n"
        "from tests.serve.fake_gateway import FakeGateway\n"
        "from fairlead.serve import connection\n"
        "from fairlead.serve.handle import DeploymentHandle\n"
        "from fairlead.wire.trust import Trust\n"
        "gateway = FakeGateway()\n"
        "connection.current()._connector = gateway.connect\n"
        "connection.set_address('unix:/fake', Trust.OWNER)\n"
        "handle = DeploymentHandle('Echo', 'app')\n"
        "assert handle.remote(1).result(timeout_s=20) == 1\n"
        "child = os.fork()\n"
        "assert handle.remote(2).result(timeout_s=20) == 2\n"
        "if not child:\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "print('both')\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "both", done.stderr
    assert done.stderr == ""


def test_several_gateways_are_spread_over_those_who_use_them():
    addresses = ["a", "b", "c"]
    assert [connection.spread(addresses, key) for key in range(4)] == [
        ("a", ("b", "c")),
        ("b", ("c", "a")),
        ("c", ("a", "b")),
        ("a", ("b", "c")),
    ]
    assert connection.spread(["a"], 5) == ("a", ())
