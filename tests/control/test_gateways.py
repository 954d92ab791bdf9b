from pathlib import Path

import pytest

from fairlead_gateway.control.actions import KillGateway, StartGateway
from fairlead_gateway.control.gateways import BIND_FAILED, DRAIN_S, Door, Doors, GatewaySupervisor
from fairlead_gateway.control.observed import GatewayView
from fairlead_gateway.control.silence import LOOK_S

START = StartGateway(gateway_id="gateway-0")


def view(**changes):
    values = {"gateway_id": "gateway-0", "pid": 7, "applied_version": 1, "trusted_address": "unix:/d/gateway-0.sock"}
    return GatewayView(**{**values, "grpc_address": "", "http_address": "127.0.0.1:4321", **changes})


@pytest.fixture
def supervisor():
    doors = Doors(http=Door(host="127.0.0.1", port=0), grpc=None)
    return GatewaySupervisor(directory=Path("/d"), doors=doors)


def test_a_worker_is_started_with_its_doors(supervisor):
    assert supervisor.reconcile(100.0) == [START]
    supervisor.started("gateway-0", 7, 100.0)
    assert supervisor.reconcile(100.0) == []
    assert supervisor.arguments("gateway-0") == [
        *("--gateway-id", "gateway-0", "--socket", "/d/gateway-0.sock"),
        *("--http-host", "127.0.0.1", "--http-port", "0"),
    ]
    assert supervisor.session_addresses == ["wire:/d/gateway-0.wire"]


def test_what_doors_do_is_passed_on_as_it_is():
    options = ("--insecure", "--http-root-path", "/x")
    doors = Doors(http=Door(host="127.0.0.1", port=0), grpc=None, options=options)
    supervisor = GatewaySupervisor(directory=Path("/d"), doors=doors)
    assert supervisor.arguments("gateway-0")[-3:] == list(options)


def test_a_worker_that_ends_comes_back_with_backoff_and_its_port(supervisor):
    supervisor.started("gateway-0", 7, 100.0)
    supervisor.said(view())
    assert supervisor.statuses()[0].ready
    assert not supervisor.process_ended("gateway-0", -9, 100.0)
    assert not supervisor.statuses()[0].ready
    assert supervisor.reconcile(100.0) == []
    assert supervisor.due == pytest.approx(100.1)
    assert supervisor.reconcile(100.2) == [START]
    assert supervisor.arguments("gateway-0")[-1] == "4321"


@pytest.mark.parametrize("changes", [{}, {"http_tls": True}, {"grpc_tls": True}])
def test_the_status_says_which_ports_speak_tls(supervisor, changes):
    supervisor.said(view(**changes))
    (status,) = supervisor.statuses()
    assert (status.http_tls, status.grpc_tls) == (changes.get("http_tls", False), changes.get("grpc_tls", False))


def test_a_frozen_worker_is_killed_within_three_seconds_and_comes_back(supervisor):
    supervisor.started("gateway-0", 7, 100.0)
    now = 100.0
    for _ in range(40):  # it has not connected yet
        now += LOOK_S
        assert not supervisor.look(now)
    supervisor.said(view())
    for _ in range(40):
        now += LOOK_S
        supervisor.heard("gateway-0", now)
        assert not supervisor.look(now)
    frozen_at = now
    assert supervisor.look_due is not None
    while not supervisor.look(now):
        now += LOOK_S
    assert now - frozen_at < 3
    assert supervisor.reconcile(now) == [KillGateway(gateway_id="gateway-0", reason="it gives no sign of life")]
    assert supervisor.reconcile(now + 1) == []
    supervisor.process_ended("gateway-0", -9, now + 1)
    assert supervisor.reconcile(now + 2) == [START]


def test_a_worker_that_works_hard_is_none(supervisor):
    used = 0.0
    supervisor = GatewaySupervisor(
        directory=Path("/d"), doors=Doors(http=None, grpc=None), processor_time=lambda pid: used
    )
    supervisor.started("gateway-0", 7, 100.0)
    supervisor.said(view())
    for turn in range(40):
        used += 0.1
        assert not supervisor.look(100.0 + turn * LOOK_S)


def test_a_bind_failure_is_for_good_only_at_first(supervisor):
    supervisor.started("gateway-0", 7, 100.0)
    assert supervisor.process_ended("gateway-0", BIND_FAILED, 100.0)
    supervisor.started("gateway-0", 8, 101.0)
    supervisor.said(view(pid=8))
    assert not supervisor.process_ended("gateway-0", BIND_FAILED, 102.0)


def test_a_drain_starts_nothing_and_ends_in_a_kill(supervisor):
    supervisor.started("gateway-0", 7, 100.0)
    supervisor.said(view())
    supervisor.drain(100.0)
    assert supervisor.reconcile(100.0) == []
    assert not supervisor.ended
    assert [type(action) for action in supervisor.reconcile(100.0 + DRAIN_S)] == [KillGateway]
    assert supervisor.reconcile(200.0) == []
    supervisor.process_ended("gateway-0", -9, 200.0)
    assert supervisor.ended
    assert supervisor.reconcile(300.0) == []


def test_a_worker_that_never_connected_is_not_drained(supervisor):
    supervisor.started("gateway-0", 7, 100.0)
    supervisor.drain(100.0)
    assert [type(action) for action in supervisor.reconcile(100.0)] == [KillGateway]


def test_a_worker_of_another_instance_is_ignored(supervisor):
    supervisor.said(view(gateway_id="gateway-9"))
    supervisor.lost("gateway-9")
    assert not supervisor.statuses()[0].ready


def test_a_worker_that_has_hung_up_while_it_drains_may_end_by_itself(supervisor):
    supervisor.started("gateway-0", 7, 100.0)
    supervisor.said(view())
    supervisor.drain(100.0)
    supervisor.lost("gateway-0")
    assert supervisor.reconcile(100.1) == []
    assert len(supervisor.reconcile(100.0 + DRAIN_S)) == 1


def test_a_worker_of_an_earlier_controller_is_kept(supervisor):
    assert supervisor.knows("gateway-0")
    assert not supervisor.knows("default#Echo#abcdef")
    supervisor.adopted("gateway-0", 7, 100.0)
    assert supervisor.reconcile(100.0) == []
    supervisor.said(view())
    assert not supervisor.process_ended("gateway-0", BIND_FAILED, 101.0), "it had its doors open"
    assert supervisor.reconcile(110.0) == [START]
    assert supervisor.arguments("gateway-0")[-1] == "4321"


def test_workers_that_share_ports_are_told_so():
    doors = Doors(http=Door(host="127.0.0.1", port=80), grpc=None, shared=True)
    assert "--reuse-port" in GatewaySupervisor(directory=Path("/d"), doors=doors, count=2).arguments("gateway-1")
