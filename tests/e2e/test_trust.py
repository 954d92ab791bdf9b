"""A port that another user could reach never unpickles anything. Proven with payloads that leave a file if they are."""

from __future__ import annotations

import json
import os
import pickle
import re
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import grpc
import httpx
import pytest

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.handle import DeploymentHandle
from fairlead.v1 import (
    control_pb2,
    control_pb2_grpc,
    replica_pb2,
    replica_pb2_grpc,
    serving_pb2,
    serving_pb2_grpc,
    session_pb2,
)
from fairlead.wire.outcomes import outcome_of
from tests.e2e.conftest import Ports
from tests.e2e.peers import JSON, RawSession, Unary, body, failure, info_of, opening, start
from tests.e2e.trust_app import Guarded

CLOUDPICKLE, PICKLE = "application/vnd.fairlead.cloudpickle", "application/vnd.fairlead.pickle"
RPCS = {"Call": "echo", "CallStream": "stream", "CallBidi": "chat", "Broadcast": "echo"}
ALTERNATIVES = r"msgpack, orjson"


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.fixture(scope="module")
def guarded(ports: Ports) -> DeploymentHandle:
    return serve.run(Guarded.bind(), name="guarded")


@pytest.fixture
def canary(tmp_path: Path, guarded: DeploymentHandle) -> Iterator[Path]:
    """The file that must not come to be; the replica serves as if nothing had happened."""
    path = tmp_path / "canary"
    yield path
    assert guarded.echo.remote("alive").result() == "alive"
    assert not path.exists(), "something was unpickled"


@pytest.fixture
def payload(canary: Path) -> bytes:
    return cloudpickle.dumps(((Canary(canary),), {}))


def target(method: str, **fields: Any) -> serving_pb2.Target:
    return serving_pb2.Target(application="guarded", method=method, **fields)


def assert_refused(call: Any, name: str) -> None:
    code, message, info = failure(call)
    assert (code, info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "UNTRUSTED_SERIALIZATION")
    assert f"'{name}'" in message
    assert re.search(ALTERNATIVES, message)


def test_the_canary_sings(tmp_path: Path) -> None:
    pickle.loads(cloudpickle.dumps(Canary(tmp_path / "canary"))).close()
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("rpc", RPCS)
@pytest.mark.parametrize(("media_type", "name"), [(CLOUDPICKLE, "cloudpickle"), (PICKLE, "pickle")])
def test_grpc_refuses_pickles_both_ways(
    rpc: str, media_type: str, name: str, channel: grpc.Channel, payload: bytes
) -> None:
    pickled = body(content_type=media_type, data=payload)
    assert_refused(start(channel, rpc, target(RPCS[rpc]), pickled), name)
    assert_refused(start(channel, rpc, target(RPCS[rpc], accept=JSON), pickled), name)
    assert_refused(start(channel, rpc, target(RPCS[rpc], accept=media_type), body()), name)


@pytest.mark.parametrize("rpc", RPCS)
def test_a_false_name_helps_nobody(rpc: str, channel: grpc.Channel, payload: bytes) -> None:
    """A pickle that says that it is something else is decoded as that, and is not valid."""
    for media_type in (JSON, "application/msgpack", ""):
        call = start(channel, rpc, target(RPCS[rpc]), body(content_type=media_type, data=payload))
        if rpc == "Broadcast":
            (result,) = (answer.result for answer in call if answer.HasField("result"))
            assert info_of(result.status).reason == "INVALID_ARGUMENTS"
        else:
            code, _, info = failure(call)
            assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENTS")


def test_later_messages_of_a_stream_are_no_way_around(channel: grpc.Channel, payload: bytes, guarded: object) -> None:
    first = serving_pb2.CallBidiRequest(target=target("chat"), payload=body())
    for media_type, reason in ((PICKLE, "INVALID_CALL"), (CLOUDPICKLE, "INVALID_CALL"), ("", "INVALID_ARGUMENTS")):
        second = serving_pb2.CallBidiRequest(payload=body(content_type=media_type, data=payload))
        call = serving_pb2_grpc.ServingServiceStub(channel).CallBidi(iter([first, second]), timeout=30)
        code, _, info = failure(call)
        assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


@pytest.mark.parametrize("kind", ["unary", "stream", "broadcast", "in pieces"])
def test_sessions_refuse_pickles_both_ways(kind: str, channel: grpc.Channel, payload: bytes) -> None:
    fields: dict[str, Any] = {"application": "guarded", "method": "echo"}
    if kind in ("stream", "broadcast"):
        fields[kind] = True
    with RawSession(channel) as session:
        number = 0
        for serialization, name in (
            (session_pb2.SERIALIZATION_CLOUDPICKLE, "cloudpickle"),
            (session_pb2.SERIALIZATION_PICKLE, "pickle"),
            (session_pb2.SERIALIZATION_HTTP, ""),
        ):
            for direction in ("request_serialization", "response_serialization"):
                number += 1
                data = payload if direction.startswith("request") else None
                call = opening(number, payload=data, last=kind != "in pieces", **fields, **{direction: serialization})
                if kind == "in pieces":
                    call.more = True
                session.send(call)
                outcome = session.end_of(number).outcome
                info = info_of(outcome.status)
                if name:
                    assert info.reason == "UNTRUSTED_SERIALIZATION"
                    assert f"'{name}'" in outcome.status.message
                    assert re.search(ALTERNATIVES, outcome.status.message)
                else:
                    assert info.reason == "UNKNOWN_SERIALIZATION"
        session.send(opening(number + 1, "fine", application="guarded", method="echo"))
        assert session.result_of(number + 1) == "fine"


@pytest.mark.parametrize("media_type", [CLOUDPICKLE, PICKLE, "application/octet-stream", JSON])
def test_http_passes_bytes_and_decodes_none(media_type: str, ports: Ports, payload: bytes) -> None:
    answer = httpx.post(ports.http, content=payload, headers={"content-type": media_type})
    assert (answer.status_code, answer.text) == (200, f"{len(payload)} bytes")


CONTROL_CALLS = {
    "Deploy": lambda evil: control_pb2.DeployRequest(application=evil),
    "Delete": lambda evil: control_pb2.DeleteRequest(application="guarded"),
    "GetStatus": lambda evil: control_pb2.GetStatusRequest(),
    "WatchStatus": lambda evil: control_pb2.WatchStatusRequest(),
    "Shutdown": lambda evil: control_pb2.ShutdownRequest(),
    "Scale": lambda evil: control_pb2.ScaleRequest(application="guarded", deployment="Guarded", num_replicas=2),
    "GetConfig": lambda evil: control_pb2.GetConfigRequest(specs=True),
    "SetTraffic": lambda evil: control_pb2.SetTrafficRequest(application="guarded"),
}


class TestWhoProvesNothing:
    """Neither deploys nor asks, and nothing that is sent for it is unpickled: see ``canary``."""

    @pytest.fixture
    def evil(self, payload: bytes) -> Iterator[control_pb2.ApplicationSpec]:
        """An application whose code leaves a file; nothing becomes of it."""
        before = api.instance_status().applications
        yield control_pb2.ApplicationSpec(
            name="evil", deployments=[control_pb2.DeploymentSpec(name="Evil", pickled_code=payload)]
        )
        names = [(each.name, each.generation) for each in api.instance_status().applications]
        assert names == [(each.name, each.generation) for each in before]

    def test_all_but_watch_is_asked_for(self) -> None:
        methods = control_pb2.DESCRIPTOR.services_by_name["ControlService"].methods_by_name
        assert set(methods) - set(CONTROL_CALLS) == {"Watch"}

    @pytest.mark.parametrize("rpc", CONTROL_CALLS)
    def test_on_the_grpc_port(self, rpc: str, channel: grpc.Channel, evil: control_pb2.ApplicationSpec) -> None:
        request = CONTROL_CALLS[rpc](evil)
        method = getattr(control_pb2_grpc.ControlServiceStub(channel), rpc)
        call = method(request, timeout=30) if rpc == "WatchStatus" else Unary(method.future(request, timeout=30))
        code, message, info = failure(call)
        assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert "TLS with a token or a client certificate" in message

    def test_what_gateways_and_replicas_ask_is_on_no_port(
        self, channel: grpc.Channel, evil: control_pb2.ApplicationSpec
    ) -> None:
        for call in (
            control_pb2_grpc.ControlServiceStub(channel).Watch(iter([control_pb2.WatchRequest()])),
            replica_pb2_grpc.ReplicaServiceStub(channel).Register(iter([replica_pb2.RegisterRequest()])),
        ):
            assert failure(call)[0] is grpc.StatusCode.UNIMPLEMENTED

    @pytest.mark.parametrize("rpc", CONTROL_CALLS)
    @pytest.mark.parametrize("kind", ["proto", "grpc-web+proto", "connect+proto"])
    def test_on_the_http_port(self, rpc: str, kind: str, ports: Ports, evil: control_pb2.ApplicationSpec) -> None:
        """By no protocol of browsers: it is a request like others, for the application that has the path."""
        message = CONTROL_CALLS[rpc](evil).SerializeToString()
        content = message if kind == "proto" else b"\0" + len(message).to_bytes(4, "big") + message
        answer = httpx.post(
            f"{ports.http}/fairlead.v1.ControlService/{rpc}",
            content=content,
            headers={"content-type": f"application/{kind}"},
            trust_env=False,
        )
        assert (answer.status_code, answer.text) == (200, f"{len(content)} bytes")


class TestWhatErrorsTell:
    """Over TCP: the type and the text of an exception. Neither its bytes nor the remote traceback."""

    @pytest.mark.parametrize("rpc", ["Call", "CallStream"])
    def test_grpc(self, rpc: str, channel: grpc.Channel, guarded: object) -> None:
        method = "fail" if rpc == "Call" else "fail_late"
        call = start(channel, rpc, target(method), body())
        code, message, info = failure(call)
        assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "USER_EXCEPTION")
        assert "boom" in message
        assert_harmless(repr(call.trailing_metadata()))

    def test_sessions_and_broadcasts(self, channel: grpc.Channel, guarded: object) -> None:
        with RawSession(channel) as session:
            session.send(opening(1, application="guarded", method="fail"))
            session.send(opening(2, application="guarded", method="fail_late", stream=True))
            session.send(opening(3, application="guarded", method="fail", broadcast=True, stream=True))
            for number in (1, 2):
                outcome = session.end_of(number).outcome
                assert (outcome.exception, outcome.traceback) == (b"", "")
                assert_harmless(repr(outcome))
            session.end_of(3)
            (result,) = (
                answer.result
                for each in session.frames
                if each.call_id == 3 and each.kind == session_pb2.FRAME_KIND_DATA
                if (answer := serving_pb2.BroadcastResponse.FromString(each.payload)).HasField("result")
            )
            assert (result.exception, result.traceback) == (b"", "")
            assert_harmless(repr(result))

    def test_http(self, ports: Ports) -> None:
        serve.run(Guarded.options(name="Bad", func_or_class=_FailsOverHttp).bind(), name="bad", route_prefix="/bad")
        answer = httpx.get(f"{ports.http}/bad")
        assert answer.status_code == 500
        assert_harmless(answer.text + repr(answer.headers))
        serve.delete("bad")


class _FailsOverHttp:
    def __call__(self) -> None:
        raise ValueError("boom")


def assert_harmless(text: str) -> None:
    assert "Traceback" not in text
    assert ".py" not in text
    assert "the traceback shows this line" not in text


class TestHandlesOverTcp:
    """A program with ``FAIRLEAD_ADDRESS=host:port``."""

    def test_with_the_default_serialization(self, ports: Ports, guarded: object) -> None:
        told = run_with_address(
            ports.grpc,
            """
            for chosen in (handle, handle.options(request_serialization="msgpack"),
                           handle.options(response_serialization="orjson")):
                try:
                    chosen.echo.remote(1).result(timeout_s=30)
                except Exception as error:
                    told.append([type(error).__name__, str(error)])
            try:
                handle.broadcast("echo", 1).results(timeout_s=30)
            except Exception as error:
                told.append([type(error).__name__, str(error)])
            """,
        )
        assert [name for name, _ in told] == ["UntrustedSerializationError"] * 4
        for _, message in told:
            assert "'cloudpickle'" in message
            assert re.search(ALTERNATIVES, message)
            assert "request_serialization=" in message

    @pytest.mark.parametrize("name", ["orjson", "msgpack"])
    def test_with_a_safe_one(self, name: str, ports: Ports, guarded: object) -> None:
        told = run_with_address(
            ports.grpc,
            f"""
            handle = handle.options(request_serialization="{name}", response_serialization="{name}")
            told.append(handle.echo.remote({{"a": [1, None]}}).result(timeout_s=30))
            told.append(list(handle.options(stream=True).stream.remote("item")))
            told.append(handle.broadcast("echo", 1).results(timeout_s=30))
            try:
                handle.fail.remote().result(timeout_s=30)
            except ValueError as error:
                told.append([type(error).__name__, str(error), str(error.__cause__)])
            """,
        )
        value, items, results, error = told
        assert (value, items, results) == ({"a": [1, None]}, ["item"], [1])
        assert error == ["ValueError", "('boom', 29)", "None"]

    def test_a_gateway_that_is_evil(self, canary: Path) -> None:
        """Exceptions and results that it sends are not unpickled either."""
        with EvilGateway(canary) as address:
            told = run_with_address(
                address,
                """
                handle = handle.options(request_serialization="orjson", response_serialization="orjson")
                for call in (handle.fail.remote(), handle.result.remote()):
                    try:
                        call.result(timeout_s=30)
                    except Exception as error:
                        told.append(type(error).__name__)
                told += [type(each).__name__ for each in
                         handle.broadcast("both").results(timeout_s=30, return_exceptions=True)]
                """,
            )
        assert told == ["ValueError", "FairleadError", "UntrustedSerializationError", "ValueError"]


def run_with_address(address: str, lines: str) -> list[Any]:
    """What a program told that has a handle over TCP."""
    program = (
        "import json\n"
        "from fairlead import serve\n"
        "told = []\n"
        "handle = serve.get_deployment_handle('Guarded', 'guarded')\n"
        f"{textwrap.dedent(lines)}\n"
        "print(json.dumps(told))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FAIRLEAD_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    told: list[Any] = json.loads(done.stdout)
    return told


class EvilGateway:
    """Answers every call of a session with pickles."""

    def __init__(self, canary: Path) -> None:
        self._canary = pickle.dumps(Canary(canary))
        self._server = grpc.server(ThreadPoolExecutor(2))
        serving_pb2_grpc.add_ServingServiceServicer_to_server(self, self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> str:
        self._server.start()
        return f"127.0.0.1:{self._port}"

    def __exit__(self, *error: object) -> None:
        self._server.stop(None).wait()

    def __getattr__(self, name: str) -> Any:
        if name[0].isupper():
            return None  # the other methods of the service
        raise AttributeError(name)

    def Session(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        context.send_initial_metadata(())
        for packet in requests:
            for each in packet.frames:
                if each.kind == session_pb2.FRAME_KIND_OPEN:
                    yield serving_pb2.SessionResponse(frames=self._answers(each))

    def _answers(self, opened: session_pb2.Frame) -> list[session_pb2.Frame]:
        end = session_pb2.Frame(call_id=opened.call_id, kind=session_pb2.FRAME_KIND_END)
        evil = outcome_of(ValueError("boom"))
        evil.exception = self._canary
        evil.traceback = "not to be trusted"
        if opened.header.method == "fail":
            end.outcome.CopyFrom(evil)
            return [end]
        if opened.header.method == "result":
            end.payload, end.has_payload = self._canary, True
            return [end]
        replicas = serving_pb2.ReplicaSet(replica_ids=["a", "b"])
        first = serving_pb2.ReplicaResult(replica_id="a", payload=body(content_type=PICKLE, data=self._canary))
        second = serving_pb2.ReplicaResult(
            replica_id="b", status=evil.status, exception=evil.exception, traceback=evil.traceback
        )
        messages = [
            serving_pb2.BroadcastResponse(replicas=replicas),
            serving_pb2.BroadcastResponse(result=first),
            serving_pb2.BroadcastResponse(result=second),
        ]
        data = session_pb2.FRAME_KIND_DATA
        return [
            *(session_pb2.Frame(call_id=opened.call_id, kind=data, payload=m.SerializeToString()) for m in messages),
            end,
        ]


class TestTheOwnersSocket:
    def test_its_directory_is_the_owners_alone(self, state_directory: Path, ports: Ports, guarded: object) -> None:
        socket = Path(ports.trusted.removeprefix("unix:"))
        assert state_directory in socket.parents
        for directory in (state_directory, socket.parent):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            assert directory.stat().st_uid == os.getuid()
        sockets = [each for each in state_directory.rglob("*") if stat.S_ISSOCK(each.stat().st_mode)]
        assert len(sockets) >= 3, "the controller's, the gateway's and the replica's"
        assert {each.parent for each in sockets} == {socket.parent}

    def test_the_default_works_there(self, guarded: DeploymentHandle) -> None:
        assert guarded.echo.remote({1: {2}}).result() == {1: {2}}

    def test_stubs_may_use_pickles_there(self, ports: Ports, guarded: object) -> None:
        with grpc.insecure_channel(ports.trusted) as channel:
            data = pickle.dumps(((1j,), {}))
            (answer,) = list(start(channel, "Call", target("echo"), body(content_type=PICKLE, data=data)))
        assert pickle.loads(answer.payload.data) == 1j


def test_other_machines_are_let_in_only_on_demand(state_directory: Path, tmp_path: Path) -> None:
    """And who is let in on demand has proved nothing: the rest of what a port refuses is refused there, too."""
    program = """
import json, sys, grpc
from fairlead import serve
from fairlead.serve import api
from tests.e2e.test_trust import Canary, Path, control_pb2, control_pb2_grpc, pickle
told = []
for options in ({"http_options": {"host": "0.0.0.0", "port": 0}, "grpc_options": {"port": 0}},
                {"http_options": {"port": 0}, "grpc_options": {"host": "0.0.0.0", "port": 0}}):
    try:
        serve.start(**options)
    except RuntimeError as error:
        told.append(str(error))
    finally:
        serve.shutdown()
serve.start(http_options={"host": "0.0.0.0", "port": 0}, grpc_options={"host": "0.0.0.0", "port": 0}, insecure=True)
(gateway,) = api.instance_status().gateways
told.append(gateway.http_address.split(":")[0])
evil = control_pb2.ApplicationSpec(name="evil", deployments=[
    control_pb2.DeploymentSpec(name="Evil", pickled_code=pickle.dumps(Canary(Path(sys.argv[1]))))])
with grpc.insecure_channel("127.0.0.1:" + gateway.grpc_address.rpartition(":")[2]) as channel:
    try:
        control_pb2_grpc.ControlServiceStub(channel).Deploy(control_pb2.DeployRequest(application=evil), timeout=30)
    except grpc.RpcError as error:
        told.append(error.code().name)
told.append([each.name for each in api.instance_status().applications])
print(json.dumps(told))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "canary")]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    http, grpc_port, allowed, refusal, deployed = json.loads(done.stdout)
    for message in (http, grpc_port):
        assert "refusing to listen on 0.0.0.0:0" in message
        assert "--insecure" in message
    assert allowed == "0.0.0.0"
    assert (refusal, deployed) == ("UNAUTHENTICATED", [])
    assert not (tmp_path / "canary").exists(), "something was unpickled"
