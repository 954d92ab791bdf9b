"""What a controller finds before it starts to control a standing instance."""

import socket

import pytest

from fairlead.lifetime import PROCESSES
from fairlead_gateway.control import standing_instance
from fairlead_gateway.control.gateways import Door, Doors, OtherOptionsError
from fairlead_gateway.control.ports import Ports
from fairlead_gateway.control.standing_instance import StandingInstance
from fairlead_gateway.control.state_lock import StateLock, StateLockedError
from fairlead_gateway.edge.binding import BindError

SECRETS = {"token": "secret"}
HTTP = Door(host="127.0.0.1", port=8123)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes instances one after the other, as controllers that are killed do."""
    made = []

    def make(*, gateways_run=False):
        for one in made:
            one._lock.release()
            one.store.close()
        made.clear()
        found = {"gateway-0": 7} if gateways_run else {}
        monkeypatch.setattr(standing_instance.DetachedLauncher, "found", lambda self: found)
        made.append(StandingInstance(tmp_path))
        return made[0]

    yield make
    for one in made:
        one.store.close()


def test_the_first_start_has_the_options_that_were_given(make):
    assert make().options(["--gateways", "2"], SECRETS, as_before=False) == ["--gateways", "2"]


def test_a_start_as_before(make):
    first = make()
    assert first.options(["--gateways", "1"], SECRETS, as_before=True) == ["--gateways", "1"], "there was none"
    first.remember(["--gateways", "2"], SECRETS, HTTP, None)
    second = make()
    assert second.options(["--gateways", "1"], SECRETS, as_before=True) == ["--gateways", "2"]
    second.forget()
    assert make().options(["--gateways", "1"], SECRETS, as_before=True) == ["--gateways", "1"]


def test_options_may_change_while_no_worker_runs(make):
    make().remember(["--gateways", "2"], SECRETS, HTTP, None)
    again = make()
    assert again.options(["--gateways", "3"], {"token": "other"}, as_before=False) == ["--gateways", "3"]
    assert again.door("http", Door(host="127.0.0.1", port=0)) == Door(host="127.0.0.1", port=0)


def test_workers_that_run_with_other_options_are_not_taken_over(make):
    make().remember(["--gateways", "2"], SECRETS, HTTP, None)
    again = make(gateways_run=True)
    with pytest.raises(OtherOptionsError, match=r"other options \(--gateways 2\); start it without options") as caught:
        again.options(["--gateways", "3"], SECRETS, as_before=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(OtherOptionsError, match="another token"):
        again.options(["--gateways", "2"], {"token": "other"}, as_before=False)
    assert again.options(["--gateways", "2"], SECRETS, as_before=False) == ["--gateways", "2"]


def test_a_port_that_was_chosen_freely_stays_while_workers_have_it(make):
    make().remember([], SECRETS, HTTP, None)
    again = make(gateways_run=True)
    assert again.door("http", Door(host="127.0.0.1", port=0)) == HTTP
    assert again.door("http", None) is None
    assert again.door("grpc", Door(host="127.0.0.1", port=0)) == Door(host="127.0.0.1", port=0)


def test_no_secret_is_written_down(make, tmp_path):
    make().remember([], {"token": "a-very-secret-token"}, HTTP, None)
    for path in tmp_path.rglob("state.db*"):
        assert b"a-very-secret-token" not in path.read_bytes()
    assert not (tmp_path / PROCESSES).exists()


def test_a_state_is_locked_by_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("fairlead_gateway.control.state_lock._PATIENCE_S", 0.0)
    first = StateLock(tmp_path)
    with pytest.raises(StateLockedError, match=r"a controller, process \d+, uses the state in"):
        StateLock(tmp_path)
    first.release()
    StateLock(tmp_path).release()


def test_reserved_ports_are_shared_with_workers_only():
    ports = Ports()
    doors = ports.reserve(Doors(http=Door(host="127.0.0.1", port=0), grpc=None))
    assert doors.shared
    assert doors.http is not None
    assert doors.http.port
    with socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind((doors.http.host, doors.http.port))
        worker.listen()
        with socket.create_connection((doors.http.host, doors.http.port)):
            worker.accept()[0].close()
        # Another instance of the same user's shares nothing by accident.
        with pytest.raises(BindError, match=f"cannot listen on 127.0.0.1:{doors.http.port}: Address already in use"):
            Ports().reserve(Doors(http=doors.http, grpc=None))
        taken_over = Ports()
        assert taken_over.reserve(Doors(http=doors.http, grpc=None), shared_already=True).http == doors.http
        taken_over.close()
    ports.close()
