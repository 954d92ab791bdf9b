"""A replica's load."""

from fairlead.v1 import session_pb2
from fairlead_gateway.routing.replica import Replica, fingerprint


def report(ongoing: int, sequence: int) -> session_pb2.Load:
    return session_pb2.Load(ongoing=ongoing, sequence=sequence)


def test_own_calls_are_counted():
    replica = Replica("r", "unix:/r")
    replica.take()
    replica.take()
    replica.release()
    assert (replica.in_flight, replica.elsewhere, replica.load) == (1, 0, 1)


def test_a_report_tells_of_the_calls_of_others():
    replica = Replica("r", "unix:/r")
    replica.take()
    replica.report(report(ongoing=5, sequence=1))
    assert (replica.in_flight, replica.elsewhere, replica.load) == (1, 4, 5)
    replica.take()
    assert replica.load == 6
    replica.report(report(ongoing=2, sequence=2))
    assert (replica.elsewhere, replica.load) == (0, 2)


def test_a_report_that_knows_less_than_we_do_takes_nothing_away():
    replica = Replica("r", "unix:/r")
    replica.take()
    replica.report(report(ongoing=0, sequence=1))
    assert (replica.in_flight, replica.elsewhere, replica.load) == (1, 0, 1)


def test_a_report_does_not_know_of_reserved_slots():
    replica = Replica("r", "unix:/r")
    replica.take()
    replica.reserved = 1
    replica.report(report(ongoing=2, sequence=1))
    assert (replica.in_flight, replica.elsewhere, replica.load) == (1, 2, 3)


def test_a_late_report_is_ignored():
    replica = Replica("r", "unix:/r")
    replica.report(report(ongoing=1, sequence=2))
    replica.report(report(ongoing=9, sequence=1))
    replica.report(report(ongoing=9, sequence=2))
    assert replica.load == 1


def test_its_text_shows_its_state():
    assert repr(Replica("r", "unix:/r")) == "<Replica r not connected in_flight=0 elsewhere=0>"


def test_a_fingerprint_is_the_same_everywhere():
    assert fingerprint("app#Echo#a") == Replica("app#Echo#a", "").fingerprint == 0xDB32D897A52234CE
