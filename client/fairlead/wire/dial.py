"""Opening a session with an address, whichever transport it names."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.v1 import session_pb2
from fairlead.wire.credentials import NONE, TLS_SCHEME, Credentials
from fairlead.wire.grpc_link import connect
from fairlead.wire.link import Link
from fairlead.wire.local import SCHEME, connect_local


async def dial(
    address: str,
    path: str,
    *,
    credentials: Credentials = NONE,
    timeout_s: float = 10.0,
    on_load: Callable[[session_pb2.Load], None] | None = None,
) -> Link:
    """Opens a session: "wire:/path" over a plain Unix socket, "unix:/path" and "host:port" over gRPC, plain, and
    "https://host:port" over gRPC with TLS.

    ``path`` is SERVING_SESSION or REPLICA_SESSION; it matters over gRPC only. Raises ConnectionLostError if the peer is
    not reached within ``timeout_s`` seconds, UnauthenticatedError if it does not let this program in, FairleadError if
    a file of the credentials cannot be read.
    """
    if address.startswith(SCHEME):
        return await connect_local(address.removeprefix(SCHEME), timeout_s=timeout_s, on_load=on_load)
    encrypted = address.startswith(TLS_SCHEME)
    return await connect(
        address.removeprefix(TLS_SCHEME),
        path,
        credentials=credentials.for_channel() if encrypted else None,
        metadata=credentials.metadata(),
        timeout_s=timeout_s,
        on_load=on_load,
    )
