"""How HTTP and gRPC are served: the options of both ports."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from fairlead.serve.user_settings import Settings
from fairlead.serve.validation import check_integer, check_number, check_optional_number, check_text


class ProxyLocation(enum.StrEnum):
    """Where HTTP and gRPC are served. On one machine ``HeadOnly`` and ``EveryNode`` are the same."""

    Disabled = "Disabled"
    """Nowhere: handles only."""
    HeadOnly = "HeadOnly"
    """On the machine that started the instance."""
    EveryNode = "EveryNode"
    """On every machine."""

    @classmethod
    def of(cls, value: ProxyLocation | str | None) -> ProxyLocation:
        """The location that a user gave, in any case; None: ``EveryNode``. ``NoServer`` is the classic ``Disabled``."""
        if value is None:
            return cls.EveryNode
        if isinstance(value, str):
            name = value.value if isinstance(value, ProxyLocation) else value
            found = {"noserver": cls.Disabled, **{one.value.lower(): one for one in cls}}.get(name.lower())
            if found is not None:
                return found
        raise ValueError(f"proxy_location must be one of {', '.join(one.value for one in cls)}, not {value!r}")


class DeploymentMode(enum.StrEnum):
    """The classic names of :class:`ProxyLocation`."""

    NoServer = "NoServer"
    """Nowhere."""
    HeadOnly = "HeadOnly"
    """On the machine that started the instance."""
    EveryNode = "EveryNode"
    """On every machine."""

    @classmethod
    def of(cls, value: ProxyLocation | DeploymentMode | str | None) -> DeploymentMode:
        """The mode that a user gave by either name, in any case; None: ``NoServer``. Raises ValueError for no such."""
        location = ProxyLocation.Disabled if value is None else ProxyLocation.of(value)
        return cls.NoServer if location is ProxyLocation.Disabled else cls(location.value)


@dataclass(frozen=True, kw_only=True)
class HTTPOptions(Settings):
    """How HTTP is served."""

    host: str | None = "127.0.0.1"
    """The address to bind; None: no HTTP."""
    port: int = 8000
    """The port to bind; 0: any free one."""
    root_path: str = ""
    """The prefix that a proxy in front has removed from paths."""
    request_timeout_s: float | None = None
    """Seconds that a request may take, queueing included, unless it says otherwise itself; None: no limit."""
    keep_alive_timeout_s: float = 90
    """Seconds that an idle connection is kept open."""
    ssl_keyfile: str | None = None
    """The file of the private key for TLS (PEM)."""
    ssl_certfile: str | None = None
    """The file of the certificate for TLS, followed by those of its issuers (PEM); None: plain text."""
    ssl_keyfile_password: str | None = field(default=None, repr=False)
    """The password of the private key; None: it has none."""
    ssl_ca_certs: str | None = None
    """The file of authorities that clients' certificates must come from (PEM); None: clients need none."""
    location: DeploymentMode | str | None = DeploymentMode.EveryNode
    """The classic spelling of ``serve.start(proxy_location=...)``; None, ``Disabled``, or no ``host``: ``NoServer``."""
    middlewares: Sequence[Any] = ()
    """``starlette.middleware.Middleware`` objects, around everything that the port answers; they run in the gateway
    workers. The last one is the outermost."""
    max_request_timeout_s: float | None = None
    """Seconds that a request may take whatever it says itself; None: as it says."""
    max_body_bytes: int = 64 * 1024 * 1024
    """The largest body of a request; above it the answer is 413."""
    max_incoming_bytes: int = 1024 * 1024 * 1024
    """Bytes of bodies that come in at once, of all requests to a gateway worker; above it the answer is 503."""
    max_head_bytes: int = 64 * 1024
    """Bytes of a request line and its header fields; above it the answer is 431."""
    head_timeout_s: float = 30
    """Seconds that a client may take to send the head of a request; then the answer is 408."""
    body_timeout_s: float = 30
    """Seconds that a client may take to send a body, and one more for each KiB of it; then the answer is 408."""
    write_timeout_s: float = 60
    """Seconds after which a client that does not read what it is sent is given up."""
    max_websocket_message_bytes: int = 16 * 1024 * 1024
    """The largest message of a WebSocket's client; a larger one closes it with 1009."""
    metadata_headers: Sequence[str] = ()
    """Further header fields of requests that methods of typed services get as metadata, under the same names."""

    def __post_init__(self) -> None:
        if self.host is not None:
            check_text("host", self.host)
        check_integer("port", self.port, at_least=0, at_most=65535)
        if self.root_path and not self.root_path.startswith("/"):
            raise ValueError(f"root_path must start with '/', not {self.root_path!r}")
        check_optional_number("request_timeout_s", self.request_timeout_s, above=0)
        check_number("keep_alive_timeout_s", self.keep_alive_timeout_s, at_least=0)
        _check_tls(self.ssl_certfile, self.ssl_keyfile, self.ssl_ca_certs, self.ssl_keyfile_password)
        location = DeploymentMode.of(self.location)
        object.__setattr__(self, "location", DeploymentMode.NoServer if self.host is None else location)
        check_optional_number("max_request_timeout_s", self.max_request_timeout_s, above=0)
        for name in ("max_body_bytes", "max_incoming_bytes", "max_head_bytes", "max_websocket_message_bytes"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("head_timeout_s", "body_timeout_s", "write_timeout_s"):
            check_number(name, getattr(self, name), above=0)
        object.__setattr__(self, "middlewares", _checked_middlewares(self.middlewares))
        object.__setattr__(self, "metadata_headers", _checked_fields(self.metadata_headers))

    def limits(self) -> dict[str, float]:
        """Those that are not what they are by default, by name: what clients may send, and how long they may take."""
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name in _LIMITS and getattr(self, one.name) != one.default
        }


_METADATA_KEY = re.compile(r"[0-9a-z_.-]+")


_LIMITS = frozenset(
    {
        "max_request_timeout_s",
        "max_body_bytes",
        "max_incoming_bytes",
        "max_head_bytes",
        "head_timeout_s",
        "body_timeout_s",
        "write_timeout_s",
        "max_websocket_message_bytes",
    }
)


def _checked_middlewares(middlewares: Any) -> tuple[Any, ...]:
    found = tuple(middlewares or ())
    for one in found:
        if not callable(getattr(one, "cls", None)) or not isinstance(getattr(one, "kwargs", None), Mapping):
            raise TypeError(f"middlewares must be starlette.middleware.Middleware objects, not {one!r}")
    return found


def _checked_fields(names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names or ()):
        raise TypeError(f"metadata_headers must be a list of names, not {names!r}")
    found = tuple(name.lower() for name in names or ())
    for name in found:
        if _METADATA_KEY.fullmatch(name) is None or name.startswith("grpc-"):
            raise ValueError(f"metadata_headers: {name!r} cannot be the name of metadata")
    return found


def _check_tls(certificate: str | None, key: str | None, authority: str | None, password: str | None = None) -> None:
    if (key is None) != (certificate is None):
        raise ValueError("Both ssl_keyfile and ssl_certfile must be provided together to enable HTTPS.")
    if certificate is None and (authority is not None or password is not None):
        raise ValueError("ssl_ca_certs and ssl_keyfile_password need ssl_certfile and ssl_keyfile.")


@dataclass(frozen=True, kw_only=True)
class gRPCOptions(Settings):
    """How gRPC is served."""

    host: str | None = "127.0.0.1"
    """The address to bind; None: no gRPC port."""
    port: int = 9000
    """The port to bind; 0: any free one."""
    grpc_servicer_functions: Sequence[str | Callable[..., Any]] = ()
    """The generated ``add_…Servicer_to_server`` functions of typed services, or their import paths."""
    request_timeout_s: float | None = None
    """Seconds that a request may take, queueing included; None: no limit but the caller's deadline."""
    enable_reflection: bool = True
    """Whether the reflection service, which describes all others, is offered."""
    ssl_keyfile: str | None = None
    """The file of the private key for TLS (PEM), without a password: gRPC can read no others. Ray Serve has no TLS for
    gRPC; the names are those of ``HTTPOptions``."""
    ssl_certfile: str | None = None
    """The file of the certificate for TLS, followed by those of its issuers (PEM); None: plain text."""
    ssl_ca_certs: str | None = None
    """The file of authorities that clients' certificates must come from (PEM); None: clients need none."""

    def __post_init__(self) -> None:
        if self.host is not None:
            check_text("host", self.host)
        check_integer("port", self.port, at_least=0, at_most=65535)
        check_optional_number("request_timeout_s", self.request_timeout_s, above=0)
        _check_tls(self.ssl_certfile, self.ssl_keyfile, self.ssl_ca_certs)
        if isinstance(self.grpc_servicer_functions, str):
            raise TypeError("grpc_servicer_functions must be a list of functions or import paths, not a string")
        object.__setattr__(self, "grpc_servicer_functions", tuple(self.grpc_servicer_functions))
