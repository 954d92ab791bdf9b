"""What the controller describes, and how calls find it."""

from __future__ import annotations

import pytest

from fairlead.wire.errors import ApplicationNotFoundError, DeploymentNotFoundError, GatewayDrainingError
from fairlead_gateway.routing.table import Changes, RouteTable
from tests.routing.fake_replica import FakeClock, admit, application, routes, snapshot


@pytest.fixture
def table(clock: FakeClock) -> RouteTable:
    return RouteTable(clock)


def ids(changes: Changes) -> tuple[list[str], list[str]]:
    return (
        [f"{deployment.name}/{replica.replica_id}" for deployment, replica in changes.added],
        [f"{deployment.name}/{replica.replica_id}" for deployment, replica in changes.removed],
    )


def test_a_call_names_application_and_deployment(table: RouteTable):
    table.apply(snapshot(application(routes(), routes(name="Other")), application(routes(), name="second")))
    assert table.find("app", "Other") is table.applications["app"].deployments["Other"]
    assert table.find("second", "Echo") is table.applications["second"].deployments["Echo"]
    assert table.find("second", "Echo") is table.find("second", "")  # its ingress


def test_the_only_application_need_not_be_named(table: RouteTable):
    table.apply(snapshot(application(routes())))
    found = table.find("", "")
    assert found.name == "Echo"
    table.apply(snapshot(application(routes()), application(routes(), name="second"), version=2))
    with pytest.raises(ApplicationNotFoundError) as refused:
        table.find("", "")
    assert refused.value.message == (
        "Application not set, and there are several. Available applications: 'app', 'second'."
    )


def test_what_has_gone_with_the_instance_is_unavailable_not_unknown(table: RouteTable):
    ending = snapshot(application(routes()))
    ending.ending = True
    table.apply(ending)
    assert table.find("", "") is table.find("app", "Echo")
    with pytest.raises(GatewayDrainingError, match="shutting down"):
        table.find("gone", "")
    ending.ClearField("applications")
    table.apply(ending)
    for name in ("", "app"):
        with pytest.raises(GatewayDrainingError, match="shutting down"):
            table.find(name, "")


def test_an_unknown_name_is_answered_with_what_there_is(table: RouteTable):
    with pytest.raises(ApplicationNotFoundError, match=r"No application is deployed\."):
        table.find("", "")
    with pytest.raises(ApplicationNotFoundError, match=r"Application 'app' not found. Available applications: none\."):
        table.find("app", "")
    table.apply(snapshot(application(routes(), routes(name="Model"), name="digits")))
    with pytest.raises(ApplicationNotFoundError) as application_missing:
        table.find("digit", "Echo")
    assert application_missing.value.message == (
        "Application 'digit' not found. Available applications: 'digits'. Did you mean 'digits'?"
    )
    with pytest.raises(DeploymentNotFoundError) as deployment_missing:
        table.find("digits", "Modle")
    assert deployment_missing.value.message == (
        "Deployment 'Modle' not found in application 'digits'. "
        "Available deployments: 'Echo', 'Model'. Did you mean 'Model'?"
    )


def test_of_many_names_some_are_listed(table: RouteTable):
    table.apply(snapshot(application(*(routes(name=f"d{number:02}") for number in range(30)))))
    with pytest.raises(DeploymentNotFoundError) as refused:
        table.find("app", "zzz")
    assert "'d19', …" in refused.value.message
    assert "d20" not in refused.value.message


def test_names_that_are_not_there_leave_nothing_behind(table: RouteTable):
    table.apply(snapshot(application(routes())))
    for number in range(100):
        with pytest.raises(DeploymentNotFoundError):
            table.find("app", str(number))
    assert len(table._found) == 0


def test_a_description_is_taken_over(table: RouteTable):
    assert not table.populated
    heard: list[int] = []
    table.on_change.append(lambda: heard.append(table.version))
    table.apply(snapshot(application(routes(slots=7, max_queued=3), route_prefix="/digits", serving=True), version=4))
    found = table.find("app", "Echo")
    assert (found.slots, found.max_queued) == (7, 3)
    app = table.applications["app"]
    assert (app.route_prefix, app.ingress, app.serving) == ("/digits", "Echo", True)
    assert (table.populated, table.version, heard) == (True, 4, [4])
    table.apply(snapshot(application(routes(slots=0)), version=2))
    assert (found.slots, app.route_prefix, app.serving, table.version) == (1, None, False, 2)
    assert table.find("app", "Echo") is found
    assert heard == [4, 2]


def test_replicas_that_come_and_go_are_told(table: RouteTable):
    assert ids(table.apply(snapshot(application(routes("a", "b"), routes("c", name="Other"))))) == (
        ["Echo/a", "Echo/b", "Other/c"],
        [],
    )
    echo = table.find("app", "Echo")
    kept = echo.replicas["b"]
    assert ids(table.apply(snapshot(application(routes("b", "d"))))) == (["Echo/d"], ["Other/c", "Echo/a"])
    assert echo.replicas["b"] is kept
    assert list(echo.replicas) == ["b", "d"]
    assert ids(table.apply(snapshot(application(routes("b", "d"))))) == ([], [])
    assert ids(table.apply(snapshot())) == ([], ["Echo/b", "Echo/d"])
    assert table.applications == {}


def test_a_replica_elsewhere_under_the_same_id_is_another_one(table: RouteTable):
    table.apply(snapshot(application(routes("a"))))
    old = table.find("app", "Echo").replicas["a"]
    moved = routes("a")
    moved.replicas[0].address = "memory:moved"
    changes = table.apply(snapshot(application(moved), version=2))
    assert ids(changes) == (["Echo/a"], ["Echo/a"])
    new = table.find("app", "Echo").replicas["a"]
    assert changes.removed[0][1] is old
    assert changes.added[0][1] is new
    assert new.address == "memory:moved"


def test_calls_that_wait_for_what_is_deleted_fail(table: RouteTable):
    table.apply(snapshot(application(routes(), routes(name="Other"))))
    waiting = admit(table.find("app", "Other"))
    staying = admit(table.find("app", "Echo"))
    deleted = table.find("app", "Other")
    table.apply(snapshot(application(routes()), version=2))
    assert waiting.outcome is not None
    assert waiting.outcome.status.message == "deployment app#Other was deleted"
    assert not staying.ends
    with pytest.raises(DeploymentNotFoundError):
        table.find("app", "Other")
    assert admit(deleted).reason == "DEPLOYMENT_UNAVAILABLE"  # found before it was deleted, say
    table.apply(snapshot(version=3))
    assert staying.reason == "DEPLOYMENT_UNAVAILABLE"


def test_a_deployment_that_comes_back_starts_anew(table: RouteTable):
    table.apply(snapshot(application(routes("a"))))
    old = table.find("app", "Echo")
    table.apply(snapshot(version=2))
    changes = table.apply(snapshot(application(routes("a")), version=3))
    new = table.find("app", "Echo")
    assert new is not old
    assert ids(changes) == (["Echo/a"], [])
    assert not admit(new).ends
