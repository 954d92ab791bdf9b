"""What does not make sense is refused with an error that says so, at its caller; nobody else notices.

Beside every test a witness has a call under way, which must end well on the replica that it began on.
"""

from __future__ import annotations

import pickle
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import httpx
import orjson
import pytest

from fairlead import serve
from fairlead.serve.exceptions import (
    ApplicationNotFoundError,
    DeploymentNotFoundError,
    InvalidArgumentsError,
    MethodNotFoundError,
    RayServeException,
    ResultNotSerializableError,
)
from fairlead.serve.handle import DeploymentHandle
from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.frames import encode_frame
from tests.e2e.bad_input_app import Sturdy, Treacherous, Unpicklable, Unspeakable
from tests.e2e.conftest import Ports
from tests.e2e.peers import JSON, RawSession, body, failure, frame, info_of, opening, start
from tests.e2e.stage import Stage

LIMIT_S = 60
MIB = 1024 * 1024
PORT_LIMIT = 64 * MIB
APP = {"application": "sturdy", "deployment": "Sturdy"}


@pytest.fixture(scope="module")
def deployed(ports: Ports, stage: Stage) -> DeploymentHandle:
    return serve.run(Sturdy.bind(stage), name="sturdy", route_prefix="/sturdy")


@pytest.fixture(autouse=True)
def sturdy(deployed: DeploymentHandle, ports: Ports, stage: Stage, key: str) -> Iterator[DeploymentHandle]:
    """The handle. Before and after each test every door answers, and the replica is still the same."""
    replica = deployed.whoami.remote().result(timeout_s=LIMIT_S)
    witness = deployed.hold.remote(f"{key}-witness")
    stage.wait_for(f"held {key}-witness")
    yield deployed
    stage.open(f"{key}-witness")
    assert witness.result(timeout_s=LIMIT_S) == f"{key}-witness"
    assert deployed.whoami.remote().result(timeout_s=LIMIT_S) == replica
    with grpc.insecure_channel(ports.grpc) as channel:
        assert orjson.loads(next(iter(call(channel, "whoami"))).payload.data) == replica
    assert httpx.post(f"{ports.http}/sturdy", content=b"12").json() == {"bytes": 2}


def call(channel: grpc.Channel, method: str, *args: Any, rpc: str = "Call", **options: Any) -> Any:
    return start(channel, rpc, serving_pb2.Target(method=method, **APP), body(*args), **options)


def result(response: Any) -> Any:
    return response.result(timeout_s=LIMIT_S)


class TestUnknownNames:
    def test_handles(self, sturdy: DeploymentHandle) -> None:
        with pytest.raises(ApplicationNotFoundError, match=r"nowhere.*sturdy"):
            result(DeploymentHandle("Sturdy", "nowhere").whoami.remote())
        with pytest.raises(DeploymentNotFoundError, match=r"Nobody.*Sturdy"):
            result(DeploymentHandle("Nobody", "sturdy").whoami.remote())
        with pytest.raises(MethodNotFoundError, match=r"nothing.*echo.*whoami"):
            result(sturdy.nothing.remote())
        with pytest.raises(MethodNotFoundError, match=r"nothing.*echo.*whoami"):
            list(sturdy.options(stream=True).nothing.remote())
        with pytest.raises(ValueError, match=r"yaml.*cloudpickle, pickle, msgpack, orjson"):
            sturdy.options(response_serialization="yaml")
        for private in ("__class__", "__init__", "__reduce__", "__dict__"):
            with pytest.raises(MethodNotFoundError):
                result(sturdy.options(method_name=private).remote())

    @pytest.mark.parametrize("rpc", ["Call", "CallStream", "CallBidi", "Broadcast"])
    def test_grpc(self, rpc: str, channel: grpc.Channel) -> None:
        target = serving_pb2.Target
        wrong = {
            "APPLICATION_NOT_FOUND": (target(application="nowhere"), ("nowhere", "sturdy")),
            "DEPLOYMENT_NOT_FOUND": (target(application="sturdy", deployment="Nobody"), ("Nobody", "Sturdy")),
            "METHOD_NOT_FOUND": (target(method="nothing", **APP), ("nothing", "echo", "whoami")),
        }
        for reason, (wanted, mentioned) in wrong.items():
            request = start(channel, rpc, wanted, body())
            if rpc == "Broadcast" and reason == "METHOD_NOT_FOUND":
                (answer,) = (each.result for each in request if each.HasField("result"))
                message, info = answer.status.message, info_of(answer.status)
            else:
                code, message, info = failure(request)
                assert code is grpc.StatusCode.NOT_FOUND
            assert info.reason == reason
            assert all(name in message for name in mentioned), message

    @pytest.mark.parametrize("rpc", ["Call", "CallStream", "CallBidi", "Broadcast"])
    def test_media_types(self, rpc: str, channel: grpc.Channel) -> None:
        for wanted, payload in (
            (serving_pb2.Target(method="whoami", **APP), body(content_type="text/plain")),
            (serving_pb2.Target(method="whoami", accept="text/plain", **APP), body()),
        ):
            code, message, info = failure(start(channel, rpc, wanted, payload))
            assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_SERIALIZATION")
            assert "text/plain" in message
            assert JSON in message

    def test_sessions(self, channel: grpc.Channel) -> None:
        with RawSession(channel) as session:
            session.send(
                opening(1, application="nowhere"),
                opening(2, application="sturdy", deployment="Nobody"),
                opening(3, method="nothing", **APP),
                opening(4, method="whoami", request_serialization=77, **APP),
                opening(5, method="whoami", request_serialization=0, **APP),
                opening(6, method="whoami", **APP),
            )
            reasons = [info_of(session.end_of(number).outcome.status).reason for number in range(1, 6)]
            assert reasons == [
                "APPLICATION_NOT_FOUND",
                "DEPLOYMENT_NOT_FOUND",
                "METHOD_NOT_FOUND",
                "UNKNOWN_SERIALIZATION",
                "UNKNOWN_SERIALIZATION",
            ]
            assert session.result_of(6)

    def test_http(self, ports: Ports) -> None:
        for path in ("/", "/nowhere", "/sturdy-too", "/-/nothing"):
            answer = httpx.get(ports.http + path)
            assert answer.status_code == 404
            assert "/-/routes" in answer.text
        assert httpx.get(f"{ports.http}/-/routes").json() == {"/sturdy": "sturdy"}

    def test_unknown_services_and_methods_of_grpc(self, channel: grpc.Channel) -> None:
        for path in ("/no.such.Service/Call", "/fairlead.v1.ServingService/NoSuchMethod"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(path)(b"", timeout=LIMIT_S)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


class TestArguments:
    @pytest.mark.parametrize(
        "data",
        [b"{", b"\xff\xfe", b"null", b"1", b'"x"', b"{}", b"[1]", b"[[], []]", b"[[], {}, {}]", b'[{"a": 1}, {}]'],
    )
    def test_undecodable(self, data: bytes, channel: grpc.Channel) -> None:
        for rpc in ("Call", "CallStream", "CallBidi"):
            target = serving_pb2.Target(method="echo", **APP)
            code, message, info = failure(start(channel, rpc, target, body(data=data)))
            assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENTS")
            assert "arguments" in message

    def test_undecodable_msgpack(self, channel: grpc.Channel) -> None:
        for data in (b"\xc1", b"\x92\x90", b"\x01"):
            payload = body(content_type="application/msgpack", data=data)
            target = serving_pb2.Target(method="echo", **APP)
            assert failure(start(channel, "Call", target, payload))[2].reason == "INVALID_ARGUMENTS"

    def test_what_only_the_replica_cannot_decode(self, sturdy: DeploymentHandle) -> None:
        with pytest.raises(InvalidArgumentsError, match=r"ZeroDivisionError: not to be unpickled"):
            result(sturdy.echo.remote(Treacherous()))
        module = sys.modules["only_here"] = ModuleType("only_here")
        try:
            exec("class Mine: pass", vars(module))
            with pytest.raises(InvalidArgumentsError, match=r"No module named 'only_here'"):
                result(sturdy.options(request_serialization="pickle").echo.remote(module.Mine()))
        finally:
            del sys.modules["only_here"]

    def test_what_cannot_be_encoded(self, sturdy: DeploymentHandle) -> None:
        for name, value in (
            ("cloudpickle", Unpicklable()),
            ("pickle", lambda: 1),
            ("msgpack", {1}),
            ("orjson", b"bytes"),
            ("orjson", {1: object()}),
        ):
            with pytest.raises((TypeError, AttributeError, ZeroDivisionError, pickle.PicklingError)):
                result(sturdy.options(request_serialization=name).echo.remote(value))

    def test_wrong_arity_by_handle(self, sturdy: DeploymentHandle) -> None:
        for args, kwargs, message in (
            ((), {}, "missing 1 required positional argument: 'value'"),
            ((1, 2, 3), {}, "takes from 2 to 3 positional arguments but 4 were given"),
            ((1,), {"colour": "red"}, "unexpected keyword argument 'colour'"),
            ((1,), {"value": 2}, "multiple values for argument 'value'"),
        ):
            with pytest.raises(TypeError, match=message):
                result(sturdy.echo.remote(*args, **kwargs))
        with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
            list(sturdy.options(stream=True).items.remote(1, x=1))

    @pytest.mark.parametrize("rpc", ["Call", "CallStream"])
    def test_wrong_arity_by_grpc(self, rpc: str, channel: grpc.Channel) -> None:
        method = "echo" if rpc == "Call" else "items"
        for args in ((), (1, 2, 3, 4)):
            code, message, info = failure(call(channel, method, *args, rpc=rpc))
            assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "USER_EXCEPTION")
            assert info.metadata["exception_type"] == "builtins.TypeError"
            assert f"{method}()" in message

    def test_requests_that_are_no_messages(self, channel: grpc.Channel) -> None:
        for rpc in ("Call", "CallStream", "Broadcast"):
            kind = channel.unary_unary if rpc == "Call" else channel.unary_stream
            with pytest.raises(grpc.RpcError) as caught:
                list(iter_of(kind(f"/fairlead.v1.ServingService/{rpc}")(b"\xff\xff\xff", timeout=LIMIT_S)))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.stream_stream("/fairlead.v1.ServingService/CallBidi")(iter([b"\xff"]), timeout=LIMIT_S))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.stream_stream("/fairlead.v1.ServingService/CallBidi")(iter([]), timeout=LIMIT_S))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]

    def test_bad_request_ids(self, channel: grpc.Channel) -> None:
        for request_id in ("x" * 300, "line\nend", "schön"):
            target = serving_pb2.Target(method="whoami", request_id=request_id, **APP)
            code, message, info = failure(start(channel, "Call", target, body()))
            assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CALL")
            assert "request id" in message


def iter_of(value: Any) -> Any:
    """The one answer of a blocking unary call, or the stream."""
    return iter([value]) if isinstance(value, bytes) else value


class TestResults:
    @pytest.mark.parametrize(
        ("serialization", "what"),
        [
            ("cloudpickle", "unpicklable"),
            ("pickle", "lambda"),
            ("pickle", "unpicklable"),
            ("msgpack", "object"),
            ("msgpack", "huge integer"),
            ("msgpack", "deep"),
            ("orjson", "object"),
            ("orjson", "surrogate"),
            ("orjson", "huge integer"),
            ("orjson", "deep"),
            ("cloudpickle", "deep"),
        ],
    )
    def test_unserializable_by_handle(self, serialization: str, what: str, sturdy: DeploymentHandle) -> None:
        with pytest.raises(ResultNotSerializableError, match=rf"'make'.*{serialization}.*response_serialization"):
            result(sturdy.options(response_serialization=serialization).make.remote(what))

    def test_what_cannot_be_decoded_here(self, sturdy: DeploymentHandle) -> None:
        with pytest.raises(RayServeException, match=r"could not be decoded.*ZeroDivisionError"):
            result(sturdy.make.remote("treacherous"))

    def test_a_generator_that_is_found_out_late(self, sturdy: DeploymentHandle) -> None:
        with pytest.raises(TypeError, match=r"'make' returned a generator"):
            result(sturdy.make.remote("generator"))

    @pytest.mark.parametrize("rpc", ["Call", "CallStream", "Broadcast"])
    def test_unserializable_by_grpc(self, rpc: str, channel: grpc.Channel) -> None:
        if rpc == "CallStream":
            stream = call(channel, "items", 2, rpc=rpc)
            assert [next(stream).payload.data, next(stream).payload.data] == [b"0", b"1"]
            _, message, info = failure(stream)
        elif rpc == "Call":
            code, message, info = failure(call(channel, "make", "object"))
            assert code is grpc.StatusCode.INTERNAL
        else:
            (answer,) = (each.result for each in call(channel, "make", "object", rpc=rpc) if each.HasField("result"))
            message, info = answer.status.message, info_of(answer.status)
        assert info.reason == "RESULT_NOT_SERIALIZABLE"
        assert "builtins.object" in message

    def test_unserializable_items(self, sturdy: DeploymentHandle) -> None:
        stream = sturdy.options(stream=True, response_serialization="orjson").items.remote(2)
        assert [next(stream), next(stream)] == [0, 1]
        with pytest.raises(ResultNotSerializableError, match=r"items.*builtins\.object"):
            next(stream)

    def test_unserializable_over_http(self, ports: Ports) -> None:
        answer = httpx.get(f"{ports.http}/sturdy?what=object")
        assert answer.status_code == 500
        assert "Traceback" not in answer.text

    def test_exceptions_without_a_text(self, sturdy: DeploymentHandle, channel: grpc.Channel, ports: Ports) -> None:
        raised = None
        try:
            result(sturdy.raise_unspeakable.remote())
        except Unspeakable as error:  # pytest.raises would ask for its text
            raised = error
        assert raised is not None
        assert "raise Unspeakable" in str(raised.__cause__)
        assert failure(call(channel, "raise_unspeakable"))[2].reason == "USER_EXCEPTION"
        assert httpx.get(f"{ports.http}/sturdy?what=raise").status_code == 500


class TestOversized:
    def test_a_request_by_grpc(self, channel: grpc.Channel) -> None:
        target = serving_pb2.Target(method="echo", **APP)
        assert next(iter(call(channel, "whoami")))
        code, message, _ = failure(start(channel, "Call", target, body(data=b"x" * (PORT_LIMIT + 1))))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger" in message
        assert next(iter(call(channel, "whoami"))), "on the same connection"

    def test_a_result_by_grpc(self, ports: Ports) -> None:
        with grpc.insecure_channel(ports.grpc, options=[("grpc.max_receive_message_length", -1)]) as channel:
            target = serving_pb2.Target(method="large", accept="application/msgpack", **APP)
            code, message, info = failure(start(channel, "Call", target, body(PORT_LIMIT + 1)))
            assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
            assert str(PORT_LIMIT) in message
            assert next(iter(call(channel, "whoami"))), "on the same connection"

    def test_metadata_of_grpc(self, channel: grpc.Channel) -> None:
        code, _, _ = failure(call(channel, "whoami", metadata=(("x-large", "x" * 64_000),)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert next(iter(call(channel, "whoami"))), "on the same connection"

    def test_a_body_over_http(self, ports: Ports) -> None:
        undeclared = httpx.post(f"{ports.http}/sturdy", content=iter([b"x" * MIB] * 80))
        assert undeclared.status_code == 413
        with tcp(ports.http) as client:
            client.sendall(f"POST /sturdy HTTP/1.1\r\nhost: x\r\ncontent-length: {10**12}\r\n\r\nx".encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 413")

    def test_a_head_over_http(self, ports: Ports) -> None:
        with tcp(ports.http) as client:
            client.sendall(b"GET /sturdy HTTP/1.1\r\nhost: x\r\nx-large: " + b"x" * 100_000)
            assert client.recv(4096).startswith(b"HTTP/1.1 431")

    def test_handles_have_room(self, sturdy: DeploymentHandle) -> None:
        """More than the ports let through: what is local is bounded by memory."""
        value = b"x" * (PORT_LIMIT + 1)
        assert result(sturdy.echo.remote(value)) == value

    def test_an_exception_that_is_huge(self, sturdy: DeploymentHandle) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'xxx"):
            result(sturdy.echo.remote(1, **{"x" * MIB: 1}))


VIOLATIONS = {
    "an unknown kind": [session_pb2.Frame(call_id=1, kind=77)],
    "no kind": [session_pb2.Frame(call_id=1)],
    "data of a call that was never opened": [frame("DATA", 5, payload=b"x")],
    "an id that was used": [opening(1, method="whoami", **APP), opening(1, method="whoami", **APP)],
    "an id that goes back": [opening(5, method="whoami", **APP), opening(3, method="whoami", **APP)],
    "an end from the opener": [opening(1, "k", method="hold", **APP), frame("END", 1)],
    "an open without a header": [frame("OPEN", 1, payload=b"[]", last=True)],
    "data after the last": [opening(1, "k", method="hold", **APP), frame("DATA", 1, payload=b"x")],
    "more after the last": [frame("OPEN", 1, payload=b"", more=True, last=True, header=session_pb2.CallHeader(**APP))],
    "no credit": [opening(1, "k", method="hold", **APP), frame("CREDIT", 1, credit=0)],
    "too much credit": [opening(1, "k", method="hold", **APP), frame("CREDIT", 1, credit=2**32 - 1)],
    "a frame that is too large": [opening(1, method="echo", payload=b"x" * (2 * MIB), **APP)],
    "more data than its credit": [
        opening(1, method="chat", stream=True, last=False, **APP),
        *(frame("DATA", 1, payload=b'"' + b"x" * 100_000 + b'"') for _ in range(20)),
    ],
}


class TestPeersThatBreakTheProtocol:
    @pytest.mark.parametrize("where", ["tcp", "unix"])
    @pytest.mark.parametrize("violation", VIOLATIONS)
    def test_violations(self, violation: str, where: str, ports: Ports) -> None:
        address = ports.grpc if where == "tcp" else ports.trusted
        with grpc.insecure_channel(address) as channel, RawSession(channel) as other, RawSession(channel) as session:
            other.send(opening(1, method="whoami", **APP))
            other.result_of(1)
            session.send(*VIOLATIONS[violation])
            goodbye = session.wait_for(
                lambda each: each.kind == session_pb2.FRAME_KIND_GOODBYE and each.HasField("outcome")
            )
            assert info_of(goodbye.outcome.status).reason == "PROTOCOL_VIOLATION"
            assert goodbye.outcome.status.message
            with pytest.raises(grpc.RpcError) as caught:
                session.wait_for(lambda each: False)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
            other.send(opening(2, method="whoami", **APP))
            assert other.result_of(2), "its neighbour on the same connection goes on"

    @pytest.mark.parametrize("where", ["tcp", "unix"])
    def test_packets_that_are_no_messages(self, where: str, ports: Ports) -> None:
        with grpc.insecure_channel(ports.grpc if where == "tcp" else ports.trusted) as channel:
            session = channel.stream_stream("/fairlead.v1.ServingService/Session")
            with pytest.raises(grpc.RpcError) as caught:
                list(session(iter([b"\xff\xff\xff\xff"]), timeout=LIMIT_S))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]

    def test_frames_that_only_came_late_are_no_violation(self, channel: grpc.Channel) -> None:
        with RawSession(channel) as session:
            session.send(opening(1, method="whoami", **APP))
            session.result_of(1)
            session.send(frame("CANCEL", 1), frame("DATA", 1, payload=b"x"), frame("CREDIT", 1, credit=5))
            session.send(opening(2, method="whoami", **APP))
            assert session.result_of(2)


class TestPeersThatStall:
    def test_one_that_does_not_read(self, channel: grpc.Channel, sturdy: DeploymentHandle) -> None:
        """It gives no credit for its stream. Its other calls, and everyone else's, go on."""
        with RawSession(channel) as session:
            session.send(opening(1, method="endless", stream=True, response_serialization=MSGPACK, **APP))
            session.wait_for(lambda each: each.call_id == 1)
            session.send(opening(2, method="whoami", **APP))
            assert session.result_of(2)
            received = sum(len(each.payload) for each in session.frames if each.call_id == 1)
            assert received <= 300 * 1024
            session.send(frame("CREDIT", 1, credit=100_000))
            so_far = len(session.frames)
            session.wait_for(lambda each: each.call_id == 1 and len(session.frames) > so_far)

    def test_one_that_does_not_finish_its_arguments(self, channel: grpc.Channel) -> None:
        with RawSession(channel) as session:
            unfinished = opening(1, method="echo", last=False, timeout_us=300_000, **APP)
            unfinished.more = True
            session.send(unfinished, opening(2, method="whoami", **APP))
            assert session.result_of(2)
            assert info_of(session.end_of(1).outcome.status).reason == "DEADLINE_EXCEEDED"

    def test_a_connection_that_takes_nothing(self, ports: Ports, sturdy: DeploymentHandle) -> None:
        """Its kernel's buffers fill up, and what the gateway holds for it. It keeps the slots that its calls have."""
        with WirePeer(ports) as peer:
            for number in range(1, 11):
                peer.send(opening(number, MIB, method="large", response_serialization=MSGPACK, **APP))
            for _ in range(20):
                assert result(sturdy.whoami.remote())


MSGPACK = session_pb2.SERIALIZATION_MSGPACK


class TestPeersThatVanish:
    def test_in_the_midst_of_a_frame_on_the_local_socket(self, ports: Ports, stage: Stage, key: str) -> None:
        with WirePeer(ports) as peer:
            peer.send(opening(1, key, method="hold", **APP))
            stage.wait_for(f"held {key}")
            peer.socket.sendall(struct.pack(">I", 1000) + b"half of it")
        with WirePeer(ports, greet=False) as peer:
            peer.socket.sendall(b"fairlead.v")

    @pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"fairlead.v2\n", b"\xff" * 10_000])
    def test_garbage_on_the_local_socket(self, garbage: bytes, ports: Ports) -> None:
        with WirePeer(ports, greet=False) as peer:
            peer.socket.sendall(garbage)
            assert peer.rest() in (b"", b"fairlead.v1\n")

    @pytest.mark.parametrize("packet", [b"\xff\xff\xff\xff", struct.pack(">I", 4) + b"\xff\xff\xff\xff"])
    def test_bad_packets_on_the_local_socket(self, packet: bytes, ports: Ports) -> None:
        with WirePeer(ports) as peer:
            peer.socket.sendall(packet)
            assert b"PROTOCOL_VIOLATION" in peer.rest()

    def test_in_the_midst_of_a_frame_of_http2(self, ports: Ports) -> None:
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        for cut in (preface[:10], preface, preface + b"\0\0\0\x04", preface + b"\0\x40\0\x01\x05\0\0\0\x01abc"):
            with tcp(ports.grpc) as client:
                client.sendall(cut)

    def test_a_session_in_the_midst_of_a_call(self, ports: Ports, stage: Stage, key: str) -> None:
        with grpc.insecure_channel(ports.grpc) as channel, RawSession(channel) as session:
            session.send(opening(1, key, method="hold", **APP))
            large = opening(2, method="echo", payload=b"[" + b"x" * 100_000, last=False, **APP)
            large.more = True
            session.send(large)
            stage.wait_for(f"held {key}")


TLS_HELLO = bytes.fromhex("16030100bb010000b70303") + b"\0" * 180


class TestGarbageOnPorts:
    @pytest.mark.parametrize(
        "garbage", [b"\0" * 1000, b"\xff" * 1000, TLS_HELLO, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"SSH-2.0-x\r\n"]
    )
    def test_grpc(self, garbage: bytes, ports: Ports) -> None:
        with tcp(ports.grpc) as client:
            client.sendall(garbage)
            while client.recv(4096):  # until it hangs up
                pass

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\0" * 1000 + b"\r\n\r\n",
            b"\xff" * 1000,
            TLS_HELLO,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"NONSENSE\r\n\r\n",
        ],
    )
    def test_http(self, garbage: bytes, ports: Ports) -> None:
        with tcp(ports.http) as client:
            client.sendall(garbage)
            answer = client.recv(4096)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer

    @pytest.mark.parametrize(
        "request_head",
        [
            "POST /sturdy HTTP/1.1\r\nhost: x\r\ncontent-length: nine\r\n\r\n",
            "POST /sturdy HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
            "POST /sturdy HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ],
    )
    def test_http_that_contradicts_itself(self, request_head: str, ports: Ports) -> None:
        with tcp(ports.http) as client:
            client.sendall(request_head.encode())
            answer = client.recv(4096)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer

    def test_http_that_stops_in_the_midst_of_a_body(self, ports: Ports) -> None:
        with tcp(ports.http) as client:
            client.sendall(b"POST /sturdy HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nonly this")


def tcp(address: str) -> socket.socket:
    host, _, port = address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=LIMIT_S)


class WirePeer:
    """Writes bytes to the socket that handles of this machine use."""

    def __init__(self, ports: Ports, *, greet: bool = True) -> None:
        directory = Path(ports.trusted.removeprefix("unix:")).parent
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(str(directory / "gateway-0.wire"))
        if greet:
            self.socket.sendall(b"fairlead.v1\n")

    def __enter__(self) -> WirePeer:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, one: session_pb2.Frame) -> None:
        packet = encode_frame(one)
        self.socket.sendall(struct.pack(">I", len(packet)) + packet)

    def rest(self) -> bytes:
        """All that comes until the other end hangs up."""
        pieces = []
        try:
            while piece := self.socket.recv(65536):
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return b"".join(pieces)
