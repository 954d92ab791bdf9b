"""Frames as tests write them, and a session's output as frames again."""

from __future__ import annotations

from typing import Any

from fairlead.v1 import session_pb2
from fairlead.wire.large_frames import Received, decode_packet
from fairlead.wire.session import Event, Session
from fairlead.wire.stream import Stream

HEADER = session_pb2.CallHeader(application="app", method="echo")


def outcome(code: int = 13, message: str = "no") -> session_pb2.Outcome:
    result = session_pb2.Outcome()
    result.status.code = code
    result.status.message = message
    return result


def frame(kind: str, call_id: int = 1, **fields: Any) -> session_pb2.Frame:
    return session_pb2.Frame(kind=session_pb2.FrameKind.Value(f"FRAME_KIND_{kind}"), call_id=call_id, **fields)


def opening(call_id: int = 1, payload: bytes = b"", **fields: Any) -> session_pb2.Frame:
    fields.setdefault("header", HEADER)
    return frame("OPEN", call_id, payload=payload, **fields)


def as_frame(received: Received) -> session_pb2.Frame:
    """A frame that came in, large or not, as the message that it stands for."""
    if isinstance(received, session_pb2.Frame):
        return received
    whole = session_pb2.Frame()
    whole.CopyFrom(received.frame)
    whole.payload = received.payload
    return whole


def sent(session: Session) -> list[session_pb2.Frame]:
    """Everything that the session wants to write, as frames."""
    frames: list[session_pb2.Frame] = []
    while packet := session.take():
        frames.extend(map(as_frame, decode_packet(packet)[0]))
    return frames


def kinds(frames: list[session_pb2.Frame]) -> list[str]:
    return [session_pb2.FrameKind.Name(each.kind).removeprefix("FRAME_KIND_") for each in frames]


def received(session: Session, *frames: session_pb2.Frame) -> list[Event]:
    events = (session.receive(each) for each in frames)
    return [event for event in events if event is not None]


def accepted(session: Session, call_id: int = 1, **fields: Any) -> Stream:
    """A call that the acceptor has taken in."""
    event = session.receive(opening(call_id, **fields))
    assert event is not None
    assert event[1] is not None
    return event[1]


class SilentOwner:
    """An owner for sessions that are driven without a link: nobody calls it."""

    def on_message(self, stream: Stream, payload: bytes, more: bool, last: bool) -> None: ...

    def on_head(self, stream: Stream, metadata: Any) -> None: ...

    def on_end(self, stream: Stream, outcome: session_pb2.Outcome | None, payload: bytes | None) -> None: ...

    def on_cancel(self, stream: Stream) -> None: ...

    def on_writable(self, stream: Stream) -> None: ...


OWNER = SilentOwner()
