"""What a program proves to a gateway's port, and how it knows that it talks to the right one."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc

from fairlead.wire.errors import FairleadError
from fairlead.wire.trust import Trust

TLS_SCHEME = "https://"
"""How addresses over TLS begin: "https://host:port"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """For sessions over TCP. Files are PEM files, read for each new connection: they may be renewed."""

    token: str | None = field(default=None, repr=False)
    """Sent as a bearer token; None: none."""
    ca_file: str | None = None
    """The authorities that the server's certificate may come from; None: those that gRPC knows."""
    certificate_file: str | None = None
    """This program's own certificate, followed by those of its issuers (mTLS); None: none."""
    key_file: str | None = None
    """The private key of that certificate."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with the request for a session."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def for_channel(self) -> grpc.ChannelCredentials:
        """The same for a channel over TLS. Raises FairleadError if a file cannot be read."""
        if (self.certificate_file is None) != (self.key_file is None):
            raise FairleadError("a client certificate and its key belong together: one of the two files is not named")
        return grpc.ssl_channel_credentials(
            root_certificates=_content(self.ca_file),
            private_key=_content(self.key_file),
            certificate_chain=_content(self.certificate_file),
        )

    def trust(self, address: str) -> Trust:
        """What the gateway at a TCP address is trusted with.

        TLS proves who it is, and it lets this program be itself only if that proves something, too: without both, what
        comes back may be anybody's, or for anybody.
        """
        proves = self.token is not None or self.certificate_file is not None
        return Trust.AUTHENTICATED if address.startswith(TLS_SCHEME) and proves else Trust.UNTRUSTED


NONE = Credentials()
"""For Unix sockets, and for ports that are open to everybody."""


def _content(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise FairleadError(f"cannot read {path}: {error.strerror or error}") from error
