"""SIGTERM where the library is what a program waits in."""

import os
import signal
import threading

import pytest

from fairlead.serve.termination import Terminated, terminable


@pytest.fixture(autouse=True)
def _default():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_it_ends_the_block_and_nothing_stays():
    with pytest.raises(Terminated) as caught, terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_handler_is_in_place_until_the_outer_block_ends():
    with terminable():
        with terminable():
            pass
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_handler_of_the_programs_own_is_left_alone():
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    with terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [1]


def test_in_other_threads_it_does_nothing():
    ended = []

    def work():
        with terminable():
            ended.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [signal.SIG_DFL]
