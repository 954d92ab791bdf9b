"""Which serializations a connection may carry: one check, for every listener.

``cloudpickle`` and ``pickle`` run code of the sender's choice when they are decoded. They are let through on
connections whose peer is the owner (a Unix socket in an owner-only directory) or has authenticated itself, and refused
anywhere else before a byte is decoded.
"""

from __future__ import annotations

import enum

from fairlead.v1 import session_pb2
from fairlead.wire.codecs import CODECS, codec_of
from fairlead.wire.errors import UntrustedSerializationError


class Trust(enum.Enum):
    """What is known of a connection's peer."""

    UNTRUSTED = "untrusted"
    """Anybody who can reach the port."""
    AUTHENTICATED = "authenticated"
    """Proved itself by mTLS, or by token over TLS."""
    OWNER = "owner"
    """The user that runs this instance, by the permissions of the Unix socket."""

    @property
    def may_run_code(self) -> bool:
        """Whether pickles, exceptions and tracebacks may pass."""
        return self is not Trust.UNTRUSTED


_HARMLESS = frozenset(
    {session_pb2.SERIALIZATION_PROTOBUF, *(codec.serialization for codec in CODECS if not codec.runs_code)}
)


def check_serialization(serialization: int, trust: Trust) -> None:
    """Refuses what the connection is not trusted with.

    Raises UnknownSerializationError, or UntrustedSerializationError that names what would work. HTTP payloads are made
    by Fairlead's own HTTP door and never come from a peer that is not the owner.
    """
    if serialization in _HARMLESS or (trust.may_run_code and serialization == session_pb2.SERIALIZATION_HTTP):
        return
    codec = codec_of(serialization)
    if codec.runs_code and not trust.may_run_code:
        safe = ", ".join(codec.name for codec in CODECS if not codec.runs_code)
        raise UntrustedSerializationError(
            f"serialization {codec.name!r} is accepted only on the owner's Unix socket and on authenticated "
            f"connections, because decoding it can run code; on this connection use one of: {safe} "
            f"(request_serialization= and response_serialization= in Python)"
        )
