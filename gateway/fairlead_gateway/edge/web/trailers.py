"""The trailers of a gRPC-Web response: HTTP/1.1 header lines in the body's last envelope. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from urllib.parse import quote_from_bytes

from fairlead_gateway.edge.web.envelopes import TRAILERS, envelope

# What grpc-message leaves as it is: printable ASCII but the percent sign.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def trailers(code: int, message: str, fields: Iterable[tuple[str, str | bytes]]) -> bytes:
    """The envelope that ends a response. ``fields``: trailing metadata, in lower case; bytes for ``-bin`` names."""
    lines = [f"grpc-status:{code}\r\n"]
    if message:
        lines.append(f"grpc-message:{percent_encoded(message)}\r\n")
    lines += [f"{name}:{_text(value)}\r\n" for name, value in fields]
    return envelope(TRAILERS, "".join(lines).encode("latin-1"))


def percent_encoded(message: str) -> str:
    """A message as gRPC's HTTP/2 mapping has it in ``grpc-message``."""
    return quote_from_bytes(message.encode("utf-8", "replace"), safe=_PLAIN)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else base64.b64encode(value).rstrip(b"=").decode()
