"""Where the doors listen, and which addresses they refuse to listen on."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field

import grpc

_TAKEN = (
    " by another program, perhaps another Fairlead instance; choose another port with http_options or grpc_options "
    '({"port": ...}; 0: any that is free), or with --http-port or --grpc-port'
)


class BindError(Exception):
    """A door cannot listen where it shall. The message says which door, where, and why."""


class InsecureBindingError(BindError):
    """The address can be reached from other machines, and whoever does would not have to prove anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """The certificates of a listener: paths of PEM files."""

    certificate_file: str
    """The server's certificate, followed by those of its issuers."""
    key_file: str
    """The private key of the certificate."""
    client_ca_file: str | None = None
    """The authority that clients' certificates must come from (mTLS); None: clients need none."""
    key_password: str | None = field(default=None, repr=False)
    """The password of the private key; None: it has none. gRPC can read such keys only."""

    def check(self) -> None:
        """Raises OSError or ssl.SSLError, with a reason, if a file cannot be used."""
        for name in (self.certificate_file, self.key_file, self.client_ca_file):
            if name is not None:
                with open(name, "rb"):  # says which one is not there, which OpenSSL does not
                    pass
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Without one OpenSSL would ask the terminal.
        context.load_cert_chain(self.certificate_file, self.key_file, lambda: self.key_password or "")
        if self.client_ca_file is not None:
            context.load_verify_locations(self.client_ca_file)

    def server_credentials(self) -> grpc.ServerCredentials:
        """The same for gRPC, which says nothing about what is wrong with them. Raises OSError as :meth:`check`."""
        self.check()
        with open(self.key_file, "rb") as key, open(self.certificate_file, "rb") as certificate:
            pairs = [(key.read(), certificate.read())]
        if self.client_ca_file is None:
            return grpc.ssl_server_credentials(pairs)
        with open(self.client_ca_file, "rb") as authority:
            return grpc.ssl_server_credentials(pairs, root_certificates=authority.read(), require_client_auth=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class TcpListener:
    """A TCP port to listen on."""

    host: str = "127.0.0.1"
    """An address or name of this machine."""
    port: int = 0
    """The port; 0: any free one."""
    tls: Tls | None = None
    """The certificates; None: plain text."""
    token: str | None = field(default=None, repr=False)
    """What every caller must send as ``authorization: Bearer <token>``; None: nothing."""
    insecure: bool = False
    """Whether to listen beyond this machine without TLS and authentication."""
    reuse_port: bool = False
    """Whether other processes may listen on the same port and share its connections (several gateway workers).

    Without it a port that is taken is an error, rather than calls that reach either of two programs.
    """

    @property
    def authenticates(self) -> bool:
        """Whether callers have to prove who they are."""
        return self.token is not None or (self.tls is not None and self.tls.client_ca_file is not None)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address. A name counts as what it resolves to, all of it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        pass
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def check_binding(listener: TcpListener) -> None:
    """Refuses a listener that others could reach without proving who they are. Raises InsecureBindingError."""
    if listener.insecure or is_loopback(listener.host) or (listener.tls is not None and listener.authenticates):
        return
    raise InsecureBindingError(
        f"refusing to listen on {format_address(listener.host, listener.port)}: other machines can reach it, and "
        f"it has {'no authentication' if listener.tls is not None else 'no TLS'}; give it a certificate "
        f"(ssl_certfile and ssl_keyfile, --tls-cert and --tls-key) and its callers a token (FAIRLEAD_TOKEN) or "
        f"certificates (ssl_ca_certs, --tls-client-ca), listen on 127.0.0.1, or let everybody in (insecure=True, "
        f"--insecure)"
    )


def bind(listener: TcpListener) -> socket.socket:
    """A bound socket that does not listen yet. Raises BindError; InsecureBindingError before anything is bound."""
    check_binding(listener)
    where = format_address(listener.host, listener.port)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listener.host or None, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BindError(f"cannot listen on {where}: {error.strerror or error}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        hint = _TAKEN if error.errno == errno.EADDRINUSE else ""
        raise BindError(f"cannot listen on {where}: {error.strerror or error}{hint}") from error
    bound.setblocking(False)
    return bound


def format_address(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
