"""The end of a program, and what it has to do with its instance."""

from types import SimpleNamespace

from fairlead.serve import connection
from fairlead.serve.instance_in_use import InstanceInUse


class _Leaving:
    """An instance of this process's that notes how its end finds the connection."""

    def __init__(self, seen):
        self._seen = seen
        self.owned = SimpleNamespace()

    def shut_down(self, timeout_s):
        self._seen.append((timeout_s, connection.current().address))


def test_a_program_that_ends_gives_up_its_calls_before_its_instance_drains():
    """Nobody can await them any more; a drain would wait for them."""
    seen = []
    mine = connection.Connection()
    mine.address = "wire:/somewhere"
    before = connection.use(mine)
    try:
        one = InstanceInUse()
        one.instance = _Leaving(seen)
        one._at_exit()
    finally:
        connection.use(before)
    assert seen == [(5.0, "")]


def test_ctrl_c_cuts_the_drain_of_a_program_that_ends_short():
    def interrupted(timeout_s):
        raise KeyboardInterrupt

    one = InstanceInUse()
    one.instance = SimpleNamespace(owned=SimpleNamespace(), shut_down=interrupted)
    one._at_exit()
    assert one.instance is None
