"""Every way to give a call up, through three deployments in a row: it reaches all that was done for it.

``Last`` has a single slot, so that a call which begins there proves that the one before has given it back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import grpc
import httpx
import pytest

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.exceptions import DeadlineExceededError, RequestCancelledError
from fairlead.serve.handle import DeploymentHandle
from fairlead.v1 import serving_pb2, serving_pb2_grpc
from tests.e2e.cancellation_app import app
from tests.e2e.conftest import Ports
from tests.e2e.peers import RawSession, body, failure, frame, info_of, opening, start
from tests.e2e.stage import Stage, wait_until

LIMIT_S = 60


@pytest.fixture(scope="module")
def first(ports: Ports, stage: Stage) -> DeploymentHandle:
    return serve.run(app(stage), name="chain", route_prefix="/")


@pytest.fixture
def last(first: DeploymentHandle) -> DeploymentHandle:
    return serve.get_deployment_handle("Last", "chain")


@pytest.fixture
def middle(first: DeploymentHandle) -> DeploymentHandle:
    return serve.get_deployment_handle("Middle", "chain")


def chain_began(stage: Stage, key: str) -> None:
    for name in ("first", "middle", "last"):
        stage.wait_for(f"{name} began {key}")


def chain_ended(stage: Stage, key: str, last: DeploymentHandle) -> None:
    """All three coroutines were cancelled, and the slot is free."""
    for name in ("first", "middle", "last"):
        stage.wait_for(f"{name} cancelled {key}")
    assert slot_is_free(last)


def slot_is_free(last: DeploymentHandle) -> bool:
    return last.thread_count.remote().result(timeout_s=LIMIT_S) > 0


def target(method: str, deployment: str = "First") -> serving_pb2.Target:
    return serving_pb2.Target(application="chain", deployment=deployment, method=method)


class TestHandles:
    def test_cancel(self, first: DeploymentHandle, last: DeploymentHandle, stage: Stage, key: str) -> None:
        response = first.hold_child.remote(key)
        chain_began(stage, key)
        response.cancel()
        response.cancel()
        assert response.cancelled()
        with pytest.raises(RequestCancelledError):
            response.result(timeout_s=LIMIT_S)
        chain_ended(stage, key, last)

    @pytest.mark.parametrize("method", ["hold_child_shielded", "hold_child_in_task"])
    def test_calls_that_nobody_awaits_directly(
        self, method: str, first: DeploymentHandle, last: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        response = getattr(first, method).remote(key)
        chain_began(stage, key)
        response.cancel()
        chain_ended(stage, key, last)

    def test_a_call_made_by_synchronous_code(
        self, first: DeploymentHandle, last: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        response = first.hold_child_blocking.remote(key)
        chain_began(stage, key)
        response.cancel()
        for event in ("first RequestCancelledError", "middle cancelled", "last cancelled"):
            stage.wait_for(f"{event} {key}")
        assert slot_is_free(last)

    def test_synchronous_code_runs_on_and_keeps_its_slot(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        response = last.sync_hold.remote(key)
        stage.wait_for(f"last began {key}")
        response.cancel()
        with pytest.raises(RequestCancelledError):
            response.result(timeout_s=LIMIT_S)
        waiting = last.thread_count.remote()
        with pytest.raises(TimeoutError):
            waiting.result(timeout_s=0.1)
        stage.open(key)
        assert waiting.result(timeout_s=LIMIT_S) > 0
        assert f"last ended {key}" in stage.events()

    def test_a_coroutine_that_takes_no_notice(
        self, middle: DeploymentHandle, last: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        response = last.swallow.remote(key)
        stage.wait_for(f"last began {key}")
        response.cancel()
        with pytest.raises(RequestCancelledError):
            response.result(timeout_s=LIMIT_S)
        stage.wait_for(f"last cancelled {key}")
        assert slot_is_free(last)

    def test_awaiting_sees_it_too(
        self, first: DeploymentHandle, last: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        async def call() -> None:
            response = first.hold_child.remote(key)
            waiting = asyncio.ensure_future(response)
            await asyncio.to_thread(chain_began, stage, key)
            response.cancel()
            with pytest.raises(RequestCancelledError):
                await waiting

        asyncio.run(call())
        chain_ended(stage, key, last)

    def test_from_another_thread(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        response = last.hold.remote(key)
        stage.wait_for(f"last began {key}")
        canceller = threading.Thread(target=response.cancel)
        canceller.start()
        with pytest.raises(RequestCancelledError):
            response.result(timeout_s=LIMIT_S)
        canceller.join()

    def test_before_it_was_sent(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        argument = last.hold.remote(key)
        stage.wait_for(f"last began {key}")
        response = last.hold.remote(argument)
        response.cancel()
        with pytest.raises(RequestCancelledError):
            response.result(timeout_s=LIMIT_S)
        stage.open(key)
        assert argument.result(timeout_s=LIMIT_S) == key
        assert slot_is_free(last)
        assert stage.events().count(f"last began {key}") == 1

    def test_after_it_has_ended(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        stage.open(key)
        response = last.hold.remote(key)
        assert response.result(timeout_s=LIMIT_S) == key
        response.cancel()
        assert response.result() == key

    def test_in_the_queue(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        """It leaves at once, and never begins."""
        running = last.hold.remote(key)
        stage.wait_for(f"last began {key}")
        queued = last.hold.remote(f"{key}-queued")
        behind = last.hold.remote(f"{key}-behind")
        queued.cancel()
        with pytest.raises(RequestCancelledError):
            queued.result(timeout_s=LIMIT_S)
        stage.open(f"{key}-behind")
        stage.open(key)
        assert [response.result(timeout_s=LIMIT_S) for response in (running, behind)] == [key, f"{key}-behind"]
        assert f"last began {key}-queued" not in stage.events()

    def test_a_task_that_awaits(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        """In a driver: as with Ray Serve the call goes on, and can be awaited again."""

        async def call() -> str:
            response = last.hold.remote(key)

            async def wait() -> str:
                return await response

            task = asyncio.create_task(wait())
            await stage.hear(f"last began {key}")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            stage.open(key)
            return await response

        assert asyncio.run(call()) == key

    def test_a_broadcast(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        response = last.broadcast("hold", key)
        stage.wait_for(f"last began {key}")
        response.cancel()
        with pytest.raises(RequestCancelledError):
            response.results(timeout_s=LIMIT_S)
        stage.wait_for(f"last cancelled {key}")
        assert slot_is_free(last)

    def test_a_broadcast_that_waits_for_a_slot(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        running = last.hold.remote(key)
        stage.wait_for(f"last began {key}")
        waiting = last.broadcast("hold", f"{key}-broadcast")
        waiting.cancel()
        stage.open(key)
        assert running.result(timeout_s=LIMIT_S) == key
        assert slot_is_free(last)
        assert f"last began {key}-broadcast" not in stage.events()


class TestStreams:
    @pytest.mark.parametrize("method", ["endless", "endless_sync", "one_and_wait"])
    def test_cancel_closes_the_generator(self, method: str, last: DeploymentHandle, stage: Stage, key: str) -> None:
        stream = getattr(last.options(stream=True), method).remote(key)
        next(stream)
        stream.cancel()
        with pytest.raises(RequestCancelledError):
            next(stream)
        stage.wait_for(f"last closed {key}")
        assert slot_is_free(last)

    def test_one_that_nobody_holds_any_more(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        stream = last.options(stream=True).endless.remote(key)
        next(stream)
        del stream
        stage.wait_for(f"last closed {key}")
        assert slot_is_free(last)

    def test_leaving_an_async_for(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        async def read() -> None:
            async for _ in last.options(stream=True).endless.remote(key):
                break

        asyncio.run(read())
        stage.wait_for(f"last closed {key}")

    def test_one_that_a_cancelled_call_reads(
        self, middle: DeploymentHandle, last: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        response = middle.read_child.remote(key)
        stage.wait_for(f"last yields {key}", 3)
        response.cancel()
        stage.wait_for(f"last closed {key}")
        assert slot_is_free(last)

    def test_a_stream_to_the_callee(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        async def messages() -> Any:
            try:
                yield "one"
                await asyncio.Event().wait()
            finally:
                stage.note(f"driver closed {key}")

        async def call() -> None:
            stream = last.options(stream=True).chat.remote(messages(), key)
            assert await anext(stream) == "one"
            stream.cancel()
            await stage.hear(f"last closed {key}")
            await stage.hear(f"driver closed {key}")

        asyncio.run(call())
        assert slot_is_free(last)


class TestDeadlines:
    def test_ends_the_whole_chain(
        self, first: DeploymentHandle, last: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        def call(key: str, time_s: float) -> None:
            response = first.options(timeout_s=time_s).hold_child.remote(key)
            with pytest.raises(DeadlineExceededError):
                response.result(timeout_s=LIMIT_S)

        chain_ended(stage, stage.meet_deadline("last began {}", key, call), last)

    def test_a_stream(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        def call(key: str, time_s: float) -> None:
            stream = last.options(stream=True, timeout_s=time_s).endless.remote(key)
            with pytest.raises(DeadlineExceededError):
                list(stream)

        key = stage.meet_deadline("last yields {}", key, call)
        stage.wait_for(f"last closed {key}")
        assert slot_is_free(last)

    def test_in_the_queue(self, last: DeploymentHandle, stage: Stage, key: str) -> None:
        running = last.hold.remote(key)
        stage.wait_for(f"last began {key}")
        with pytest.raises(DeadlineExceededError, match=r"\.hold passed "):
            last.options(timeout_s=0.1).hold.remote(f"{key}-queued").result(timeout_s=LIMIT_S)
        stage.open(key)
        assert running.result(timeout_s=LIMIT_S) == key
        assert slot_is_free(last)
        assert f"last began {key}-queued" not in stage.events()

    def test_grpc(self, channel: grpc.Channel, last: DeploymentHandle, stage: Stage, key: str) -> None:
        def call(key: str, time_s: float) -> None:
            code, _, _ = failure(start(channel, "Call", target("hold_child"), body(key), timeout=time_s))
            assert code is grpc.StatusCode.DEADLINE_EXCEEDED

        chain_ended(stage, stage.meet_deadline("last began {}", key, call), last)

    def test_http(self, ports: Ports, last: DeploymentHandle, stage: Stage, key: str) -> None:
        def call(key: str, time_s: float) -> None:
            asked, headers = {"method": "hold_child", "key": key}, {"x-request-timeout-seconds": f"{time_s}"}
            answer = httpx.get(ports.http, params=asked, headers=headers, timeout=LIMIT_S)
            assert answer.status_code == 408

        chain_ended(stage, stage.meet_deadline("last began {}", key, call), last)


class TestGrpc:
    @pytest.mark.parametrize("rpc", ["Call", "Broadcast"])
    def test_cancel(self, rpc: str, channel: grpc.Channel, last: DeploymentHandle, stage: Stage, key: str) -> None:
        call = start(channel, rpc, target("hold_child"), body(key))
        chain_began(stage, key)
        call.cancel()
        chain_ended(stage, key, last)

    @pytest.mark.parametrize("rpc", ["CallStream", "CallBidi"])
    def test_cancel_a_stream(
        self, rpc: str, channel: grpc.Channel, last: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        method, wanted = ("endless", target("endless", "Last")) if rpc == "CallStream" else ("chat", None)
        if wanted is not None:
            call = start(channel, rpc, wanted, body(key))
        else:
            forever = threading.Event()

            def requests() -> Any:
                yield serving_pb2.CallBidiRequest(target=target(method, "Last"), payload=body(key))
                yield serving_pb2.CallBidiRequest(payload=body(data=b'"x"'))
                forever.wait(LIMIT_S)

            call = serving_pb2_grpc.ServingServiceStub(channel).CallBidi(requests(), timeout=LIMIT_S)
        next(call)
        call.cancel()
        stage.wait_for(f"last closed {key}")
        assert slot_is_free(last)
        if wanted is None:
            forever.set()

    def test_a_connection_that_is_closed(self, ports: Ports, last: DeploymentHandle, stage: Stage, key: str) -> None:
        with grpc.insecure_channel(ports.grpc) as channel:
            call = start(channel, "Call", target("hold_child"), body(key))
            chain_began(stage, key)
        assert call.code() is grpc.StatusCode.CANCELLED
        chain_ended(stage, key, last)

    def test_cancel_on_a_session(self, channel: grpc.Channel, last: DeploymentHandle, stage: Stage, key: str) -> None:
        with RawSession(channel) as session:
            session.send(opening(1, key, application="chain", method="hold_child"))
            chain_began(stage, key)
            session.send(frame("CANCEL", 1))
            assert info_of(session.end_of(1).outcome.status).reason == "CANCELLED"
            chain_ended(stage, key, last)

    def test_a_session_that_ends(self, channel: grpc.Channel, last: DeploymentHandle, stage: Stage, key: str) -> None:
        with RawSession(channel) as session:
            session.send(opening(1, key, application="chain", method="hold_child"))
            chain_began(stage, key)
        chain_ended(stage, key, last)


class TestHttp:
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_a_client_that_disconnects(
        self, how: str, ports: Ports, last: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        with connect(ports, "hold_child", key) as client:
            chain_began(stage, key)
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        chain_ended(stage, key, last)

    def test_a_client_that_disconnects_from_a_stream(self, ports: Ports, stage: Stage, key: str) -> None:
        with connect(ports, "stream", key) as client:
            stage.wait_for(f"first yields {key}", 3)
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        stage.wait_for(f"first closed {key}")


def connect(ports: Ports, method: str, key: str) -> socket.socket:
    host, _, port = ports.http.removeprefix("http://").partition(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(f"GET /?method={method}&key={key} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    return client


class TestCallersThatVanish:
    def test_a_driver_that_is_killed(
        self, first: DeploymentHandle, last: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        """Another program of the same user, with a handle to this instance."""
        import pickle

        program = (
            "import pickle, sys\n"
            "handle, key = pickle.load(sys.stdin.buffer)\n"
            "stream = handle.options(stream=True).one_and_wait.remote(f'{key}-stream')\n"
            "print(next(stream), flush=True)\n"
            "handle.hold_child.remote(key).result()\n"
        )
        driver = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert driver.stdin is not None
        with driver.stdin as pipe:
            pipe.write(pickle.dumps((first, key)))
        chain_began(stage, key)
        stage.wait_for(f"first began {key}-stream")
        driver.kill()
        driver.wait()
        stage.wait_for(f"first closed {key}-stream")
        chain_ended(stage, key, last)

    def test_a_replica_that_is_killed(
        self, first: DeploymentHandle, last: DeploymentHandle, stage: Stage, key: str
    ) -> None:
        """What it had called is given up; what had called it hears of it."""
        response = first.hold_child.remote(key)
        chain_began(stage, key)
        (replica,) = (
            replica
            for application in api.instance_status().applications
            for deployment in application.deployments
            if deployment.name == "Middle"
            for replica in deployment.replicas
        )
        os.kill(replica.pid, signal.SIGKILL)
        with pytest.raises(serve.exceptions.ReplicaUnavailableError):
            response.result(timeout_s=LIMIT_S)
        stage.wait_for(f"last cancelled {key}")
        assert slot_is_free(last)
        wait_until(lambda: api.status().applications["chain"].status == "RUNNING", api.status)
