"""Options of the ports that ``fairlead run`` and ``fairlead start`` share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

HttpHost = Annotated[str | None, typer.Option(help="The HTTP address. Default: 127.0.0.1.")]
HttpPort = Annotated[int | None, typer.Option(help="The HTTP port; 0: any. Default: 8000.", min=0, max=65535)]
GrpcHost = Annotated[str | None, typer.Option(help="The gRPC address. Default: 127.0.0.1.")]
GrpcPort = Annotated[int | None, typer.Option(help="The gRPC port; 0: any. Default: 9000.", min=0, max=65535)]
Gateways = Annotated[int | None, typer.Option(help="How many gateway workers share the ports. Default: 1.", min=1)]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Listen beyond this machine without TLS and authentication.")
]
TlsCert = Annotated[str | None, typer.Option(help="A certificate (PEM): both ports speak TLS.")]
TlsKey = Annotated[str | None, typer.Option(help="Its private key (PEM).")]
TlsClientCa = Annotated[
    str | None, typer.Option(help="An authority (PEM): clients need a certificate that comes from it.")
]


def tls_settings(cert: str | None, key: str | None, client_ca: str | None) -> dict[str, Any]:
    """The options as ``HTTPOptions`` and ``gRPCOptions`` name them, those that were given."""
    return given(ssl_certfile=cert, ssl_keyfile=key, ssl_ca_certs=client_ca)


def given(**options: Any) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in options.items() if value is not None}
