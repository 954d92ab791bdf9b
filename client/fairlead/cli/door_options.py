"""Options of the ports that ``fairlead run`` and ``fairlead start`` share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Insecure = Annotated[
    bool, typer.Option("--insecure", help="Listen beyond this machine without TLS and authentication.")
]
TlsCert = Annotated[str | None, typer.Option(help="A certificate (PEM): both ports speak TLS.")]
TlsKey = Annotated[str | None, typer.Option(help="Its private key (PEM).")]
TlsClientCa = Annotated[
    str | None, typer.Option(help="An authority (PEM): clients need a certificate that comes from it.")
]


def tls_settings(cert: str | None, key: str | None, client_ca: str | None) -> dict[str, Any]:
    """The options as ``HTTPOptions`` and ``gRPCOptions`` name them."""
    return {"ssl_certfile": cert, "ssl_keyfile": key, "ssl_ca_certs": client_ca}
