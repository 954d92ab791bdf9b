"""``python -m fairlead_gateway``: runs a gateway worker. The controller starts it; people use ``fairlead``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import uvloop

from fairlead.serve import tracing
from fairlead.serve.logs import LoggingConfig, set_up
from fairlead.variables import HTTP_KEY_PASSWORD, TOKEN
from fairlead_gateway.edge.binding import BindError, TcpListener, Tls
from fairlead_gateway.edge.grpc_door import GrpcLimits
from fairlead_gateway.edge.http_limits import HttpLimits, limit
from fairlead_gateway.worker import Worker, WorkerConfig

BIND_FAILED = 3
"""The exit status for a port or socket that is not to be had: starting again would not help. A file beside the socket
that ends in ``.failed`` says why."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fairlead_gateway", description=__doc__)
    parser.add_argument("--controller", required=True, help="the controller's address, unix:/path")
    parser.add_argument("--gateway-id", required=True, help="this worker's name")
    parser.add_argument("--socket", required=True, help="path of the Unix socket for trusted callers")
    parser.add_argument("--http-host", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, help="HTTP port; 0: any; without it no HTTP")
    parser.add_argument("--grpc-host", default="127.0.0.1")
    parser.add_argument("--grpc-port", type=int, help="gRPC port; 0: any; without it no gRPC beyond the socket")
    parser.add_argument("--insecure", action="store_true", help="listen beyond this machine without TLS and a token")
    parser.add_argument("--reuse-port", action="store_true", help="share the ports with other workers")
    parser.add_argument("--owner-pid", type=int, help="a process to end with")
    parser.add_argument("--logging", metavar="JSON", help="how to log: a LoggingConfig as a JSON object")
    parser.add_argument(
        "--controller-patience",
        type=float,
        metavar="SECONDS",
        default=600.0,
        help="drain and end after this many seconds without a controller (default: %(default)s)",
    )
    http = parser.add_argument_group("HTTP")
    http.add_argument(
        "--http-keep-alive-timeout", type=float, metavar="SECONDS", default=HttpLimits().keep_alive_timeout_s
    )
    http.add_argument("--http-request-timeout", type=float, metavar="SECONDS", help="without it no limit")
    http.add_argument(
        "--http-limit", type=limit, action="append", default=[], metavar="NAME=VALUE", help="a field of HttpLimits"
    )
    http.add_argument(
        "--http-metadata-header", action="append", default=[], metavar="NAME", help="a field that becomes metadata"
    )
    http.add_argument("--http-root-path", default="", help="the prefix that a proxy has removed from paths")
    rpc = parser.add_argument_group("gRPC")
    rpc.add_argument("--grpc-request-timeout", type=float, metavar="SECONDS", help="without it no limit")
    rpc.add_argument("--no-grpc-reflection", action="store_true", help="offer no reflection service")
    for door, group in (("http", http), ("grpc", rpc)):
        group.add_argument(f"--{door}-tls-cert", metavar="FILE", help="the certificate, with those of its issuers")
        group.add_argument(f"--{door}-tls-key", metavar="FILE", help="its private key")
        group.add_argument(f"--{door}-tls-client-ca", metavar="FILE", help="who clients' certificates must come from")
    return parser


def parse(argv: list[str] | None, environment: Mapping[str, str]) -> WorkerConfig:
    """The command line as a configuration. Secrets come with the environment: everybody can read command lines."""
    options = _parser().parse_args(argv)
    passwords = {"http": environment.get(HTTP_KEY_PASSWORD)}
    token = environment.get(TOKEN, "").strip() or None

    def listener(door: str) -> TcpListener | None:
        host, port, certificate, key, client_ca = (
            getattr(options, f"{door}_{name}") for name in ("host", "port", "tls_cert", "tls_key", "tls_client_ca")
        )
        if port is None:
            return None
        tls = Tls(
            certificate_file=certificate, key_file=key, client_ca_file=client_ca, key_password=passwords.get(door)
        )
        return TcpListener(
            host=host,
            port=port,
            tls=tls if certificate else None,
            token=token,
            insecure=options.insecure,
            reuse_port=options.reuse_port,
        )

    return WorkerConfig(
        controller=options.controller,
        gateway_id=options.gateway_id,
        socket=options.socket,
        http=listener("http"),
        grpc=listener("grpc"),
        http_limits=HttpLimits(
            **{
                "keep_alive_timeout_s": options.http_keep_alive_timeout,
                "request_timeout_s": options.http_request_timeout,
                "metadata_headers": tuple(options.http_metadata_header),
                **dict(options.http_limit),
            }
        ),
        grpc_limits=GrpcLimits(request_timeout_s=options.grpc_request_timeout),
        root_path=options.http_root_path,
        reflection=not options.no_grpc_reflection,
        logging=None if options.logging is None else LoggingConfig.from_json(options.logging),
        owner_pid=options.owner_pid,
        patience_s=options.controller_patience,
    )


async def serve(config: WorkerConfig) -> None:
    """Runs a worker until SIGTERM or SIGINT."""
    worker = Worker(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run()


def main() -> None:
    """The program."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    config = parse(None, os.environ)
    set_up(config.logging, {"component": "gateway", "gateway": config.gateway_id}, config.gateway_id)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    tracing.set_up(os.environ, "fairlead-gateway")
    gc.freeze()  # what is loaded stays: the collector need not look through it
    try:
        uvloop.run(serve(config))
    except BindError as error:
        # For whoever started it, to say it once: what is written to stderr ends in its log as well.
        Path(config.socket).with_suffix(".failed").write_text(f"{error}\n")
        sys.exit(BIND_FAILED)


if __name__ == "__main__":
    main()
