"""What `fairlead status` prints."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fairlead.cli.status_text import print_status, status_value, where_lines
from fairlead.serve.status import EndpointTraffic, serve_status
from fairlead.v1 import control_pb2


def status() -> control_pb2.InstanceStatus:
    def share(application: str, deployment: str, share: float) -> control_pb2.TrafficShare:
        return control_pb2.TrafficShare(application=application, deployment=deployment, share=share)

    policy = control_pb2.TrafficPolicy(
        name="Old",
        backends=[share("shop", "Old", 0.9), share("next", "", 0.1)],
        shadows=[share("lab", "Try", 0.5)],
    )
    application = control_pb2.ApplicationStatus(
        name="shop", state=control_pb2.APPLICATION_STATE_RUNNING, ingress_deployment="Old", traffic=[policy]
    )
    return control_pb2.InstanceStatus(applications=[application])


def test_it_shows_how_calls_are_spread() -> None:
    text = io.StringIO()
    print_status(status(), Console(file=text, width=40))
    assert "calls to shop/Old go to shop/Old 90 %, next 10 %, lab/Try 50 % as a shadow\n" in text.getvalue()


def test_so_does_its_json() -> None:
    value = status_value(status())["applications"]["shop"]["traffic"]
    assert value == {"Old": {"backends": {"shop/Old": 0.9, "next": 0.1}, "shadows": {"lab/Try": 0.5}}}


def test_so_does_the_status_in_programs() -> None:
    expected = EndpointTraffic(backends={"shop/Old": 0.9, "next": 0.1}, shadows={"lab/Try": 0.5})
    assert serve_status(status()).applications["shop"].traffic == {"Old": expected}


def reached(**tls: bool) -> control_pb2.InstanceStatus:
    gateway = control_pb2.GatewayStatus(http_address="127.0.0.1:8000", grpc_address="127.0.0.1:9000", **tls)
    return control_pb2.InstanceStatus(gateways=[gateway])


@pytest.mark.parametrize(
    ("tls", "http", "grpc"),
    [
        ({}, "http://127.0.0.1:8000", "127.0.0.1:9000"),
        ({"http_tls": True}, "https://127.0.0.1:8000", "127.0.0.1:9000"),
        ({"grpc_tls": True}, "http://127.0.0.1:8000", "https://127.0.0.1:9000"),
    ],
)
def test_urls_say_which_ports_speak_tls(tls: dict[str, bool], http: str, grpc: str) -> None:
    assert [line.split()[:2] for line in where_lines(reached(**tls))] == [["HTTP", f"{http}/"], ["gRPC", grpc]]
    text = io.StringIO()
    print_status(reached(**tls), Console(file=text, width=200))
    assert text.getvalue().splitlines()[0].split()[-2:] == [http, grpc]


def test_json_says_which_ports_speak_tls() -> None:
    (gateway,) = status_value(reached(http_tls=True))["gateways"]
    assert (gateway["http"], gateway["http_tls"], gateway["grpc_tls"]) == ("127.0.0.1:8000", True, False)
