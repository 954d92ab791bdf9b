"""What a session has to write: encoded frames, in order, joined to packets when the transport takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from fairlead.wire.frames import MAX_PACKET
from fairlead.wire.large_frames import Encoded, LargeFrame, flat


class Outbox:
    """Frames that wait to be written."""

    __slots__ = ("_large", "calls", "frames", "size")

    def __init__(self) -> None:
        self.frames: deque[Encoded] = deque()
        self.size = 0
        """Bytes of them."""
        self.calls = 0
        """How many calls they open or end: work for somebody else, who may have a core to spare."""
        self._large = False
        """Whether there may be frames whose payload was not copied."""

    def __repr__(self) -> str:
        return f"<Outbox frames={len(self.frames)} size={self.size}>"

    def put(self, data: bytes) -> None:
        """Adds a frame."""
        self.frames.append(data)
        self.size += len(data)

    def put_large(self, frame: LargeFrame) -> None:
        """Adds a frame whose payload is still its owner's memory."""
        self._large = True
        self.frames.append(frame)
        self.size += frame.size

    def clear(self) -> None:
        """Drops what waits."""
        self.frames.clear()
        self.size = self.calls = 0
        self._large = False

    def take(self) -> Sequence[bytes | memoryview]:
        """One packet, in parts to be written one after the other; empty: nothing waits."""
        self.calls = 0
        waiting = self.frames
        if self.size <= MAX_PACKET:
            frames = list(waiting)
            waiting.clear()
            self.size = 0
            if not self._large:
                return (b"".join(frames),) if frames else ()  # type: ignore[arg-type]  # all of them bytes
        else:
            frames = []
            size = 0
            while waiting and size < MAX_PACKET:
                data = waiting.popleft()
                frames.append(data)
                size += data.size if isinstance(data, LargeFrame) else len(data)
            self.size -= size
        if not self._large:
            return (b"".join(frames),)  # type: ignore[arg-type]
        self._large = bool(waiting)
        return flat(frames)
