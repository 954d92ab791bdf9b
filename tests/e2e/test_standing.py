"""A standing instance with two gateway workers: what is killed under load, and what its callers see of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import orjson
import psutil
import pytest

from fairlead import serve
from fairlead.serve import api, connection, standing
from fairlead.serve.config import HTTPOptions, gRPCOptions
from fairlead.serve.connection import Connection
from fairlead.serve.doors import Doors
from fairlead.serve.exceptions import RayServeException
from fairlead.serve.handle import DeploymentHandle
from fairlead.serve.instance_in_use import current
from fairlead.v1 import control_pb2, serving_pb2, serving_pb2_grpc
from fairlead.wire.trust import Trust
from tests.e2e.peers import body
from tests.e2e.stage import wait_until
from tests.e2e.standing_app import Echo, Narrow

LIMIT_S = 60
DOORS = Doors(http=HTTPOptions(port=0), grpc=gRPCOptions(port=0), gateways=2)


@pytest.fixture(scope="module")
def handle(state_directory: Path) -> Iterator[DeploymentHandle[Any]]:
    serve.start(detached=True, http_options={"port": 0}, grpc_options={"port": 0}, gateways=2)
    yield serve.run(Echo.bind())
    serve.shutdown()
    wait_until(lambda: processes(state_directory) == [], lambda: processes(state_directory))


def processes(state: Path) -> list[int]:
    """Who works in a state directory."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and str(state) in " ".join(process.info["cmdline"] or ())
    ]


def pids(status: control_pb2.InstanceStatus) -> dict[str, int]:
    """Process ids of gateway workers and replicas by name."""
    found = {gateway.gateway_id: gateway.pid for gateway in status.gateways}
    for application in status.applications:
        for deployment in application.deployments:
            found |= {replica.replica_id: replica.pid for replica in deployment.replicas}
    return found


class Load:
    """Calls in threads, one after the other each, until it is left."""

    def __init__(self, *calls: Callable[[int], None]) -> None:
        self.answered = [0] * len(calls)
        self.failed: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._go, args=pair) for pair in enumerate(calls)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, calls: int = 20) -> None:
        """Blocks until each thread has had some more answers, or a call has failed."""
        before = list(self.answered)
        wait_until(
            lambda: (
                bool(self.failed) or all(now >= was + calls for now, was in zip(self.answered, before, strict=True))
            ),
            lambda: (before, self.answered),
        )

    def _go(self, index: int, call: Callable[[int], None]) -> None:
        while not self._over.is_set():
            try:
                call(self.answered[index])
                self.answered[index] += 1
            except Exception as error:
                self.failed.append(repr(error))
                return


def by_handle(handle: DeploymentHandle[Any]) -> Callable[[int], None]:
    def call(number: int) -> None:
        assert handle.echo.remote(number).result(timeout_s=LIMIT_S) == number

    return call


def by_http(address: str) -> Callable[[int], None]:
    """A connection each, so that every worker gets some."""

    def call(_: int) -> None:
        answer = httpx.get(f"http://{address}/", timeout=LIMIT_S)
        assert (answer.status_code, answer.text) == (200, "over HTTP")

    return call


def by_grpc(channel: grpc.Channel) -> Callable[[int], None]:
    stub = serving_pb2_grpc.ServingServiceStub(channel)
    target = serving_pb2.Target(application="default", method="echo")

    def call(number: int) -> None:
        request = serving_pb2.CallRequest(target=target, payload=body(number))
        assert orjson.loads(stub.Call(request, timeout=LIMIT_S).payload.data) == number

    return call


def test_a_controller_is_killed_and_another_takes_over(handle: DeploymentHandle[Any]) -> None:
    before = api.instance_status()
    with (
        grpc.insecure_channel(before.gateways[0].grpc_address) as channel,
        Load(by_handle(handle), by_handle(handle), by_http(before.gateways[0].http_address), by_grpc(channel)) as load,
    ):
        for _ in range(2):
            os.kill(api.instance_status().controller.pid, signal.SIGKILL)
            load.go_on()
            assert set(standing.orphans().values()) == set(pids(before))
            standing.start(None)
            load.go_on()
            after = api.instance_status()
            assert pids(after) == pids(before)
            assert after.applications[0].state == control_pb2.APPLICATION_STATE_RUNNING
            assert after.applications[0].generation == before.applications[0].generation
        # The new controller is one: it replaces, it deploys.
        serve.run(Echo.options(max_ongoing_requests=30).bind())
        load.go_on()
    assert load.failed == []


def test_endpoints_are_called_while_there_is_no_controller(handle: DeploymentHandle[Any]) -> None:
    serve.create_backend("hello", lambda: "hello")
    serve.create_endpoint("hello", backend="hello")
    before = serve.list_endpoints(), serve.list_backends()
    os.kill(api.instance_status().controller.pid, signal.SIGKILL)
    wait_until(lambda: current.existing().away)
    try:
        for missing_ok in (False, True):
            assert serve.get_handle("hello", missing_ok).remote().result(timeout_s=LIMIT_S) == "hello"
        # Whether it exists is found out by the first call.
        with pytest.raises(RayServeException, match="nonesuch"):
            serve.get_handle("nonesuch").remote().result(timeout_s=LIMIT_S)
    finally:
        standing.start(None)
    assert (serve.list_endpoints(), serve.list_backends()) == before
    serve.delete_endpoint("hello")
    serve.delete_backend("hello")


def test_replicas_that_end_while_there_is_no_controller_are_replaced(handle: DeploymentHandle[Any]) -> None:
    before = api.instance_status()
    os.kill(before.controller.pid, signal.SIGKILL)
    victim = before.applications[0].deployments[0].replicas[0]
    os.kill(victim.pid, signal.SIGKILL)
    assert handle.options(idempotent=True).echo.remote(1).result(timeout_s=LIMIT_S) == 1
    standing.start(None)
    running = control_pb2.APPLICATION_STATE_RUNNING
    wait_until(lambda: api.instance_status().applications[0].state == running)
    after = pids(api.instance_status())
    assert len(after) == len(pids(before))
    assert victim.replica_id not in after


def test_a_gateway_worker_is_killed_and_the_other_takes_over(handle: DeploymentHandle[Any]) -> None:
    idempotent = handle.options(idempotent=True)
    before = api.instance_status()
    http, grpc_address = before.gateways[0].http_address, before.gateways[0].grpc_address
    assert {gateway.http_address for gateway in before.gateways} == {http}
    for gateway in before.gateways:
        os.kill(gateway.pid, signal.SIGKILL)
        wait_until(lambda pid=gateway.pid: not psutil.pid_exists(pid) or is_zombie(pid))  # type: ignore[misc]
        # Whoever calls now finds the other one: calls under way at the one that was killed are lost with it.
        call = by_http(http)
        for number in range(20):
            call(number)
        with grpc.insecure_channel(grpc_address) as channel:
            by_grpc(channel)(1)
        wait_until(lambda: answers(idempotent))
        with Load(by_handle(idempotent), by_http(http)) as load:
            wait_until(lambda: all(one.ready for one in api.instance_status().gateways))
            load.go_on()
        assert load.failed == []
    after = api.instance_status()
    assert [one.http_address for one in after.gateways] == [http, http]
    assert not {one.pid for one in after.gateways} & {one.pid for one in before.gateways}


def is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def answers(handle: DeploymentHandle[Any]) -> bool:
    """False: the call was under way at a gateway worker that was killed."""
    try:
        return bool(handle.echo.remote(1).result(timeout_s=LIMIT_S) == 1)
    except RayServeException:
        return False


def test_a_frozen_gateway_worker_is_replaced_and_keeps_no_deploy_waiting(handle: DeploymentHandle[Any]) -> None:
    before = {gateway.gateway_id: gateway.pid for gateway in api.instance_status().gateways}
    os.kill(before["gateway-1"], signal.SIGSTOP)
    serve.run(Echo.options(max_ongoing_requests=31).bind())
    wait_until(lambda: all(gateway.ready for gateway in api.instance_status().gateways), api.instance_status)
    after = {gateway.gateway_id: gateway.pid for gateway in api.instance_status().gateways}
    assert after["gateway-0"] == before["gateway-0"]
    assert after["gateway-1"] != before["gateway-1"]
    assert handle.echo.remote(1).result(timeout_s=LIMIT_S) == 1


def test_a_replica_with_one_slot_serves_both_gateway_workers(handle: DeploymentHandle[Any]) -> None:
    """Neither knows what the other sends: the replica says when it is full, and when it no longer is."""
    narrow: DeploymentHandle[Any] = serve.run(Narrow.bind(), name="narrow", route_prefix=None)
    before = connection.current()
    mine = []
    try:
        responses = []
        for gateway in api.instance_status().gateways:
            one = Connection()
            one.set_address(gateway.session_address, Trust.OWNER)
            mine.append(one)
            connection.use(one)
            responses += [narrow.work.remote(number) for number in range(100)]
        assert [response.result(timeout_s=LIMIT_S) for response in responses] == [*range(100), *range(100)]
        # One that has nothing under way hears of the slot that the other one's calls leave.
        for _ in range(20):
            for one in mine:
                connection.use(one)
                assert narrow.work.remote(1).result(timeout_s=LIMIT_S) == 1
    finally:
        connection.use(before)
        for one in mine:
            one.close()
        serve.delete("narrow")


def test_without_a_controller_for_too_long_everything_ends_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path_factory.mktemp("s")
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(state))
    monkeypatch.setattr(current, "instance", None)
    before = connection.use(None)
    try:
        standing.start(DOORS, patience_s=1.0)
        serve.run(Echo.bind())
        os.kill(api.instance_status().controller.pid, signal.SIGKILL)
        wait_until(lambda: processes(state) == [], lambda: processes(state))
        assert standing.address() is None
        standing.start(None)
        current.forget()
        running = control_pb2.APPLICATION_STATE_RUNNING
        wait_until(lambda: api.instance_status().applications[0].state == running)
        assert api.get_app_handle("default").echo.remote(3).result(timeout_s=LIMIT_S) == 3
        api.shutdown()
        wait_until(lambda: processes(state) == [], lambda: processes(state))
    finally:
        connection.use(before)
