"""Messages in pieces: what is too large for a frame, or finds no credit, waits in its stream and goes out in order.

Pure, as the session, which sends by itself what fits a frame and the credit.
"""

from __future__ import annotations

from collections import deque

from fairlead.v1 import session_pb2
from fairlead.wire.frames import MAX_PIECE, encode_data
from fairlead.wire.large_frames import LARGE_PAYLOAD, encode_large_frame
from fairlead.wire.outbox import Outbox
from fairlead.wire.stream import Stream, cost


def hold(stream: Stream, payload: bytes | memoryview, more: bool, last: bool) -> None:
    """Keeps a message, or a piece of one, behind what waits already; in pieces, if it is too large for a frame."""
    pending = stream.pending
    if pending is None:
        pending = stream.pending = deque()
    size = len(payload)
    if size <= MAX_PIECE:
        pending.append((payload, more, last))
        return
    view = memoryview(payload)
    for start in range(0, size, MAX_PIECE):
        whole = start + MAX_PIECE >= size
        pending.append((view[start : start + MAX_PIECE], more or not whole, last and whole))


def send_held(stream: Stream, outbox: Outbox) -> bool:
    """Sends what waits, as far as credit goes. Whether all of it went."""
    pending = stream.pending
    while pending and stream.send_credit > 0:
        payload, more, last = pending.popleft()
        stream.send_credit -= cost(payload)
        stream.sent_last = last
        if len(payload) < LARGE_PAYLOAD:
            outbox.put(encode_data(stream.call_id, bytes(payload), more, last))
        else:
            put_large_data(outbox, stream, payload, more, last)
    if pending:
        return False
    stream.pending = None
    return True


def put_large_data(outbox: Outbox, stream: Stream, payload: bytes | memoryview, more: bool, last: bool) -> None:
    """Adds a DATA frame whose payload is not copied."""
    frame = session_pb2.Frame(call_id=stream.call_id, kind=session_pb2.FRAME_KIND_DATA, more=more, last=last)
    outbox.put_large(encode_large_frame(frame, payload))
