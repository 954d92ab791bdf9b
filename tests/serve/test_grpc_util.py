"""The context of typed services' methods."""

import asyncio
import pickle
import time

import grpc
import pytest
from google.rpc import status_pb2

from fairlead.serve.grpc_util import RayServegRPCContext, RpcAborted, checked_metadata, gRPCContext
from fairlead.v1 import session_pb2


def test_what_the_caller_sent():
    header = session_pb2.CallHeader(peer="ipv4:1.2.3.4:5")
    header.metadata.add(key="a", value=b"x")
    header.metadata.add(key="a-bin", value=b"\xff")
    context = gRPCContext(header, time.monotonic() + 60)
    assert context.invocation_metadata() == [("a", "x"), ("a-bin", b"\xff")]
    assert context.peer() == "ipv4:1.2.3.4:5"
    assert 59 < context.time_remaining() <= 60
    assert gRPCContext(None, time.monotonic() - 1).time_remaining() == 0
    assert gRPCContext().time_remaining() is None
    assert not context.cancelled()
    assert (context.auth_context(), context.peer_identities(), context.peer_identity_key()) == ({}, None, None)
    assert RayServegRPCContext is gRPCContext


def test_what_is_set_can_be_read():
    context = gRPCContext()
    assert (context.code(), context.details(), context.trailing_metadata()) == (None, "", ())
    context.set_code(grpc.StatusCode.NOT_FOUND)
    context.set_details("none")
    context.set_trailing_metadata([("K", "v")])
    context.set_compression(grpc.Compression.Gzip)
    assert context.code() is grpc.StatusCode.NOT_FOUND
    assert context.details() == "none"
    assert context.trailing_metadata() == (("k", "v"),)
    assert "NOT_FOUND" in repr(context)
    with pytest.raises(TypeError, match=r"grpc\.StatusCode, not 5"):
        context.set_code(5)


async def test_aborting_with_and_without_await():
    context = gRPCContext()
    context.set_trailing_metadata([("k", "v")])
    with pytest.raises(RpcAborted) as caught:
        context.abort(grpc.StatusCode.ABORTED, "why", [("l-bin", b"\x00")])
    with pytest.raises(RpcAborted):
        await context.abort(grpc.StatusCode.ABORTED)
    error = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "why")
    assert error.trailing_metadata() == (("k", "v"), ("l-bin", b"\x00"))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code(), copy.details(), copy.trailing_metadata()) == (
        error.code(),
        error.details(),
        error.trailing_metadata(),
    )
    assert str(error) == "ABORTED: why"
    with pytest.raises(ValueError, match="not aborted with the status OK"):
        context.abort(grpc.StatusCode.OK)


def test_aborting_with_a_status():
    status = status_pb2.Status(code=5, message="gone")
    with pytest.raises(RpcAborted) as caught:
        gRPCContext().abort_with_status(status)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert dict(caught.value.trailing_metadata())["grpc-status-details-bin"] == status.SerializeToString()
    with pytest.raises(RpcAborted) as caught:
        gRPCContext().abort_with_status(status_pb2.Status(code=99))
    assert caught.value.code() is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ([("a b", "x")], ValueError),
        ([("", "x")], ValueError),
        ([("é", "x")], ValueError),
        ([("grpc-x", "x")], ValueError),
        ([("a", "\n")], ValueError),
        ([("a", "é")], ValueError),
        ([("a", b"x")], TypeError),
        ([("a-bin", "x")], TypeError),
        ([("a", 1)], TypeError),
        ([(b"a", "x")], TypeError),
    ],
)
def test_metadata_that_cannot_travel(metadata, error):
    with pytest.raises(error):
        checked_metadata(metadata)


async def test_reading_and_writing():
    context = gRPCContext()
    with pytest.raises(RuntimeError, match="send no stream"):
        await context.read()
    with pytest.raises(RuntimeError, match="does not answer with a stream"):
        await context.write("x")
    items: asyncio.Queue[str] = asyncio.Queue()
    written = []

    async def read():
        if items.empty():
            raise StopAsyncIteration
        return await items.get()

    async def write(message):
        written.append(message)

    context.connect(read, write)
    items.put_nowait("a")
    assert await context.read() == "a"
    assert await context.read() is grpc.aio.EOF
    assert not context.answered
    await context.write("b")
    assert (written, context.answered) == (["b"], True)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_after_the_end_there_are_no_streams(cancelled):
    async def read():
        return "a"

    context = gRPCContext()
    context.connect(read, None)
    context.finish(cancelled)
    assert context.cancelled() is cancelled
    with pytest.raises(RuntimeError, match="the call is over"):
        await context.read()
    with pytest.raises(RuntimeError, match="does not answer with a stream"):
        await context.write("b")
    await context.send_initial_metadata([])


async def test_initial_metadata_are_sent_once():
    context, sent = gRPCContext(), []
    context.connect(None, None, sent.append)
    with pytest.raises(ValueError, match="gRPC's own"):
        context.send_initial_metadata([("grpc-i", "1")])
    assert (sent, context.initial_metadata(), context.answered) == ([], (), False)
    await context.send_initial_metadata([("I", "1")])
    assert sent == [context.initial_metadata()] == [(("i", "1"),)]
    assert context.answered
    with pytest.raises(RuntimeError, match="sent once"):
        context.send_initial_metadata([])


async def test_initial_metadata_that_come_too_late_are_not_noted():
    def refuse(metadata):
        raise RuntimeError("a message was sent before")

    context = gRPCContext()
    context.connect(None, None, refuse)
    with pytest.raises(RuntimeError, match="a message was sent"):
        context.send_initial_metadata([("i", "1")])
    assert context.initial_metadata() == ()


async def test_initial_metadata_of_a_call_without_grpc_are_noted():
    context = gRPCContext()
    await context.send_initial_metadata([])
    assert context.initial_metadata() == ()
    with pytest.raises(RuntimeError, match="sent once"):
        context.send_initial_metadata([("i", "1")])
