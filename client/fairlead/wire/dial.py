"""Opening a session with an address, whichever transport it names."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.v1 import session_pb2
from fairlead.wire.link import Link, connect
from fairlead.wire.local import SCHEME, connect_local


async def dial(
    address: str,
    path: str,
    *,
    timeout_s: float = 10.0,
    on_load: Callable[[session_pb2.Load], None] | None = None,
) -> Link:
    """Opens a session: "wire:/path" over a plain Unix socket, "unix:/path" and "host:port" over gRPC.

    ``path`` is SERVING_SESSION or REPLICA_SESSION; it matters over gRPC only. Raises ConnectionLostError if the peer is
    not reached within ``timeout_s`` seconds.
    """
    if address.startswith(SCHEME):
        return await connect_local(address.removeprefix(SCHEME), timeout_s=timeout_s, on_load=on_load)
    return await connect(address, path, timeout_s=timeout_s, on_load=on_load)
