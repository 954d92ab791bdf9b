"""The doors of an instance, as its controller and gateway workers are told of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.serve import environment, instance_middlewares
from fairlead.serve.config import DeploymentMode, HTTPOptions, ProxyLocation, gRPCOptions
from fairlead.serve.grpc_services import describe_sources
from fairlead.serve.logs import LoggingConfig
from fairlead.serve.tracing_config import TracingConfig
from fairlead.variables import HTTP_KEY_PASSWORD, TOKEN


@dataclass(frozen=True, kw_only=True)
class Doors:
    """Where an instance can be called from outside this user's Unix sockets."""

    http: HTTPOptions | None = field(default_factory=HTTPOptions)
    """None: no HTTP."""
    grpc: gRPCOptions | None = field(default_factory=gRPCOptions)
    """None: no gRPC port."""
    gateways: int = 1
    """How many gateway workers share them."""
    insecure: bool = False
    """Whether doors that other hosts can reach may be open to everybody."""
    logging: LoggingConfig | None = None
    """How gateway workers log; None: text, without access log."""
    tracing: TracingConfig | None = None
    """How gateway workers and replicas trace; None: as OpenTelemetry's variables say."""

    @classmethod
    def of(
        cls,
        proxy_location: ProxyLocation | str | None,
        http: HTTPOptions,
        grpc: gRPCOptions | None,
        insecure: bool,
        gateways: int = 1,
        logging: LoggingConfig | None = None,
        tracing: TracingConfig | None = None,
    ) -> Doors:
        """The doors that a user's options ask for. Where proxies are disabled there is neither of them.

        Raises what importing their ``grpc_servicer_functions`` raises.
        """
        grpc = grpc or gRPCOptions()
        describe_sources(grpc.grpc_servicer_functions)
        disabled = ProxyLocation.of(proxy_location) is ProxyLocation.Disabled or (
            http.location is DeploymentMode.NoServer and http.host is not None
        )
        return cls(
            http=None if disabled or http.host is None else http,
            grpc=None if disabled or grpc.host is None else grpc,
            insecure=insecure,
            gateways=gateways,
            logging=logging,
            tracing=tracing,
        )

    def keep(self, directory: Path) -> None:
        """Leaves what is no matter of command lines in the instance's directory, which is this user's alone.

        Raises TypeError for middlewares that cannot be sent to gateway workers.
        """
        instance_middlewares.keep(directory, () if self.http is None else self.http.middlewares)

    def arguments(self) -> list[str]:
        """For the controller's command line; what follows ``--`` is for gateway workers."""
        arguments = ["--gateways", str(self.gateways)]
        if self.tracing is not None:
            arguments += ["--tracing", self.tracing.to_json()]
        for name, door in (("http", self.http), ("grpc", self.grpc)):
            if door is None or door.host is None:
                arguments.append(f"--no-{name}")
            else:
                arguments += [f"--{name}-host", door.host, f"--{name}-port", str(door.port)]
        return [*arguments, "--", *self._worker_options()]

    def _worker_options(self) -> list[str]:
        options = ["--insecure"] if self.insecure else []
        if self.logging is not None:
            options += ["--logging", self.logging.to_json().decode()]
        for name, door in (("http", self.http), ("grpc", self.grpc)):
            if door is not None and door.ssl_certfile is not None and door.ssl_keyfile is not None:
                options += [f"--{name}-tls-cert", _absolute(door.ssl_certfile)]
                options += [f"--{name}-tls-key", _absolute(door.ssl_keyfile)]
                if door.ssl_ca_certs is not None:
                    options += [f"--{name}-tls-client-ca", _absolute(door.ssl_ca_certs)]
        if http := self.http:
            options += ["--http-keep-alive-timeout", str(http.keep_alive_timeout_s), "--http-root-path", http.root_path]
            if http.request_timeout_s is not None:
                options += ["--http-request-timeout", str(http.request_timeout_s)]
            for name, value in http.limits().items():
                options += ["--http-limit", f"{name}={value}"]
            for name in http.metadata_headers:
                options.append(f"--http-metadata-header={name}")
        if grpc := self.grpc:
            if grpc.request_timeout_s is not None:
                options += ["--grpc-request-timeout", str(grpc.request_timeout_s)]
            if not grpc.enable_reflection:
                options.append("--no-grpc-reflection")
        return options

    def secrets(self) -> dict[str, str]:
        """What goes to the processes by their environment, which only this user can read."""
        found = {TOKEN: environment.token(), HTTP_KEY_PASSWORD: self.http and self.http.ssl_keyfile_password}
        return {name: value for name, value in found.items() if value}


def _absolute(path: str) -> str:
    """Of a file's path, also if this program changes its directory before a gateway worker is started again."""
    return os.path.abspath(path)
