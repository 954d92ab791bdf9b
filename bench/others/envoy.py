"""Envoy with its JSON transcoder, as a configuration file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FILTERS = "type.googleapis.com/envoy.extensions.filters"
_HTTP2 = {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "explicit_http_config": {"http2_protocol_options": {}},
}


def write_configuration(path: Path, *, port: int, upstream: str, descriptors: Path, service: str) -> None:
    """Configures a listener on loopback that transcodes for one gRPC server without TLS, ``host:port``."""
    filters = [
        {
            "name": "envoy.filters.http.grpc_json_transcoder",
            "typed_config": {
                "@type": f"{_FILTERS}.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
                "proto_descriptor": str(descriptors),
                "services": [service],
                "convert_grpc_status": True,
            },
        },
        {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
        },
    ]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "60s"}}
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": filters,
    }
    listener = {
        "address": _address("127.0.0.1", port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    host, _, upstream_port = upstream.rpartition(":")
    endpoint = {"endpoint": {"address": _address(host, int(upstream_port))}}
    cluster = {
        "name": "server",
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _HTTP2},
        "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    path.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, indent=1))


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
