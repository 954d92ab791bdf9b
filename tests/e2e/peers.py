"""Peers that speak the wire by hand: gRPC calls through the stubs, and sessions frame by frame."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import orjson
from google.api import httpbody_pb2
from google.rpc import error_details_pb2, status_pb2

from fairlead.v1 import serving_pb2, serving_pb2_grpc, session_pb2

JSON = "application/json"
PATIENCE_S = 60.0


def body(*args: Any, content_type: str = JSON, data: bytes | None = None, **kwargs: Any) -> httpbody_pb2.HttpBody:
    """Arguments in JSON, or the bytes that are given."""
    return httpbody_pb2.HttpBody(content_type=content_type, data=orjson.dumps([args, kwargs]) if data is None else data)


class Unary:
    """A unary call that was started: an iterator of its one answer, for the rest what grpc gives."""

    def __init__(self, future: Any) -> None:
        self._future = future

    def __iter__(self) -> Iterator[Any]:
        yield self._future.result()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future, name)


def start(
    channel: grpc.Channel, rpc: str, target: serving_pb2.Target, payload: httpbody_pb2.HttpBody, **options: Any
) -> Any:
    """Starts ``Call``, ``CallStream``, ``CallBidi`` or ``Broadcast`` with one message: an iterator and a call."""
    stub = serving_pb2_grpc.ServingServiceStub(channel)
    request = getattr(serving_pb2, f"{rpc}Request")(target=target, payload=payload)
    options.setdefault("timeout", PATIENCE_S)
    if rpc == "Call":
        return Unary(stub.Call.future(request, **options))
    return getattr(stub, rpc)(iter([request]) if rpc == "CallBidi" else request, **options)


def failure(call: Any) -> tuple[grpc.StatusCode, str, error_details_pb2.ErrorInfo]:
    """The status, message and ErrorInfo of a call that must fail."""
    try:
        messages = list(call)
    except grpc.RpcError as error:
        status = status_pb2.Status()
        for name, value in error.trailing_metadata() or ():  # type: ignore[attr-defined]
            if name == "grpc-status-details-bin":
                status.ParseFromString(value)
        return error.code(), error.details() or "", info_of(status)  # type: ignore[attr-defined]
    raise AssertionError(f"the call succeeded: {messages}")


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo among a status's details; an empty one if there is none."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)
    return info


def frame(kind: str, call_id: int = 1, **fields: Any) -> session_pb2.Frame:
    """A frame of the kind that is named as in session.proto, without its prefix."""
    return session_pb2.Frame(kind=session_pb2.FrameKind.Value(f"FRAME_KIND_{kind}"), call_id=call_id, **fields)


def opening(call_id: int, *args: Any, payload: bytes | None = None, last: bool = True, **header: Any) -> Any:
    """An OPEN frame with arguments in JSON, or the bytes that are given; ``header``: the fields of its CallHeader."""
    header.setdefault("request_serialization", session_pb2.SERIALIZATION_JSON)
    header.setdefault("response_serialization", session_pb2.SERIALIZATION_JSON)
    data = orjson.dumps([args, {}]) if payload is None else payload
    return frame("OPEN", call_id, payload=data, last=last, header=session_pb2.CallHeader(**header))


class RawSession:
    """A session of which the test writes each frame. Frames that come are kept by call."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._packets: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.call = serving_pb2_grpc.ServingServiceStub(channel).Session(iter(self._packets.get, None))
        self._received: Iterator[session_pb2.Frame] = (each for packet in self.call for each in packet.frames)
        self.frames: list[session_pb2.Frame] = []

    def __enter__(self) -> RawSession:
        return self

    def __exit__(self, *error: object) -> None:
        self._packets.put(None)
        self.call.cancel()
        with suppress(grpc.RpcError):
            list(self.call)

    def send(self, *frames: session_pb2.Frame) -> None:
        """Sends frames in one packet."""
        self._packets.put(serving_pb2.SessionRequest(frames=frames))

    def wait_for(self, wanted: Callable[[session_pb2.Frame], bool]) -> session_pb2.Frame:
        """The first frame that fits, of those that came and those to come. Raises grpc.RpcError or AssertionError."""
        for each in self.frames:
            if wanted(each):
                return each
        for each in self._received:
            self.frames.append(each)
            if wanted(each):
                return each
        raise AssertionError(f"the session ended after {self.frames}")

    def end_of(self, call_id: int) -> session_pb2.Frame:
        """The END of a call."""
        return self.wait_for(lambda each: each.call_id == call_id and each.kind == session_pb2.FRAME_KIND_END)

    def result_of(self, call_id: int) -> Any:
        """The result of a unary call with a small result in JSON."""
        end = self.end_of(call_id)
        assert not end.HasField("outcome"), end
        return orjson.loads(end.payload)
