"""What `fairlead status` prints."""

from __future__ import annotations

import io

from rich.console import Console

from fairlead.cli.status_text import print_status, status_value
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
