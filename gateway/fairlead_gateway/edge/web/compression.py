"""Messages compressed with gzip, where both ends know it. Bounded on the way in. Pure."""

from __future__ import annotations

import gzip
import re
import zlib

from fairlead.wire.errors import InvalidCallError, MessageTooLargeError

GZIP = "gzip"
IDENTITY = "identity"
SUPPORTED = GZIP
"""What clients are told in ``grpc-accept-encoding`` and its relatives."""

WORTHWHILE = 1024
"""Bytes of a message below which compressing it saves nobody anything."""

_NEVER = re.compile(r"[qQ]=0(\.0*)?")  # RFC 9110, 12.4.2: a weight of nothing
_LEVEL = 4
_GZIP_WINDOW = 31  # zlib's: gzip with the largest window


def offered(accepted: str) -> bool:
    """Whether a list of encodings, ``gzip;q=0.5, br``, has gzip in it."""
    for entry in accepted.split(","):
        name, _, parameters = entry.partition(";")
        if name.strip().lower() == GZIP:
            return _NEVER.fullmatch(parameters.strip()) is None
    return False


def compress(message: bytes) -> bytes:
    """The message in gzip."""
    return gzip.compress(message, _LEVEL, mtime=0)


def decompress(data: bytes, limit: int) -> bytes:
    """A message that came in gzip, of at most ``limit`` bytes.

    Raises MessageTooLargeError without making more of it, InvalidCallError for what is no gzip, or ends too early, or
    goes on behind its end.
    """
    opened = zlib.decompressobj(_GZIP_WINDOW)
    try:
        message = opened.decompress(data, limit + 1)
    except zlib.error as error:
        raise InvalidCallError("a compressed message of the request is not valid gzip") from error
    if len(message) > limit:
        raise MessageTooLargeError(f"a message of the request is larger than the limit of {limit} bytes")
    if not opened.eof or opened.unused_data:
        raise InvalidCallError("a compressed message of the request is not valid gzip")
    return message
