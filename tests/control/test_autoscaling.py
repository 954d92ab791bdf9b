from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.v1 import control_pb2
from fairlead_gateway.control.autoscaling import Autoscaler, LoadWindow, wanted_replicas

MEAN = control_pb2.LOAD_AGGREGATION_MEAN
MAX = control_pb2.LOAD_AGGREGATION_MAX
MIN = control_pb2.LOAD_AGGREGATION_MIN


def settings(**changes):
    values = {
        "min_replicas": 1,
        "max_replicas": 10,
        "target_ongoing_requests": 2,
        "look_back_period_s": 30,
        "upscaling_factor": 1,
        "downscaling_factor": 1,
        "upscale_delay_s": 30,
        "downscale_delay_s": 600,
        "downscale_to_zero_delay_s": 600,
    }
    return control_pb2.AutoscalingSettings(**{**values, **changes})


class Deployment:
    """One that scales by itself, whose replicas are there as soon as they are wanted."""

    def __init__(self, target=1, **changes):
        self.now = 100.0
        self.scaler = Autoscaler(settings(**changes), target, self.now)

    def run(self, seconds, calls, tick_s=0.5):
        """Lets time pass with so many calls; how many replicas there were at each turn."""
        targets = []
        for _ in range(int(seconds / tick_s)):
            self.scaler.window.note(self.now, calls)
            targets.append(self.scaler.decide(self.now, self.scaler.target))
            self.now += tick_s
        return targets


@pytest.mark.parametrize(
    ("calls", "running", "factors", "wanted"),
    [
        (20, 1, {}, 10),
        (20, 10, {}, 10),
        (21, 10, {}, 11),
        (0, 4, {}, 0),
        (40, 10, {"upscaling_factor": 0.5}, 15),
        (10, 10, {"downscaling_factor": 0.5}, 8),
        (0, 1, {"downscaling_factor": 0.5}, 0),
        (0.6, 1, {"target_ongoing_requests": 0.1}, 6),
    ],
)
def test_the_formula(calls, running, factors, wanted):
    assert wanted_replicas(settings(**factors), running, calls) == wanted


def test_more_must_be_wanted_for_a_while():
    one = Deployment()
    assert set(one.run(29, 8)) == {1}
    assert one.run(2, 8)[-1] == 4


def test_a_moment_of_less_starts_the_wait_anew():
    one = Deployment(look_back_period_s=0.1)
    one.run(25, 8)
    one.run(1, 2)
    assert set(one.run(29, 8)) == {1}
    assert one.run(2, 8)[-1] == 4


def test_fewer_must_be_wanted_for_longer():
    one = Deployment(target=4)
    assert set(one.run(599, 2)) == {4}
    assert one.run(2, 2)[-1] == 1


def test_it_falls_to_the_most_that_was_wanted_meanwhile():
    one = Deployment(target=8, look_back_period_s=0.1)
    one.run(300, 2)
    one.run(10, 10)
    assert set(one.run(289, 2)) == {8}
    assert one.run(2, 0)[-1] == 5


def test_the_bounds_hold():
    one = Deployment(target=2, min_replicas=2, max_replicas=3, upscale_delay_s=0, downscale_delay_s=0)
    assert one.run(60, 1000)[-1] == 3
    assert one.run(60, 0)[-1] == 2
    one.scaler.configure(settings(min_replicas=5, max_replicas=9))
    assert one.scaler.target == 5


def test_the_last_replica_goes_after_a_wait_of_its_own_and_only_then():
    one = Deployment(
        target=3,
        min_replicas=0,
        look_back_period_s=1,
        downscale_delay_s=10,
        downscale_to_zero_delay_s=100,
    )
    targets = one.run(99, 0)
    assert targets[0] == 3
    assert targets[-1] == 1
    assert one.run(3, 0)[-1] == 0
    assert all(before - after in (0, 1) or after >= 1 for before, after in pairwise(targets))


def test_a_call_wakes_what_sleeps_at_once():
    one = Deployment(target=0, min_replicas=0)
    assert one.run(60, 0)[-1] == 0
    assert one.run(0.5, 1) == [1]


def test_many_calls_wake_as_many_as_they_need():
    one = Deployment(target=0, min_replicas=0)
    one.run(60, 0)
    assert one.run(0.5, 9) == [5]


def test_nothing_falls_asleep_while_there_is_a_call():
    """Whatever the aggregation makes of it."""
    one = Deployment(
        target=1,
        min_replicas=0,
        aggregation=MIN,
        look_back_period_s=5,
        downscale_delay_s=0,
        downscale_to_zero_delay_s=0,
    )
    one.run(3, 0)
    assert one.scaler.target == 0
    one.run(1, 1)
    assert set(one.run(4, 1)) == {1}


def test_a_policy_of_the_users_decides_within_bounds_and_delays():
    one = Deployment(policy_import_path="app:policy")
    assert one.scaler.has_policy
    assert set(one.run(60, 100)) == {1}, "it has not answered"
    one.scaler.wish = 99
    assert set(one.run(29, 0)) == {1}
    assert one.run(2, 0)[-1] == 10


def test_other_settings_count_from_then_on():
    one = Deployment()
    one.scaler.configure(settings(upscale_delay_s=0))
    assert one.run(0.5, 4) == [2]


STEPS = st.lists(st.tuples(st.floats(0, 20), st.integers(0, 50)), min_size=1, max_size=20)


@given(steps=STEPS, period=st.floats(0.1, 60), rest=st.floats(0.01, 20))
def test_the_window_agrees_with_counting_hundredths_of_seconds(steps, period, rest):
    window, now, history = LoadWindow(0.0), 0.0, []
    for pause, calls in [*steps, (rest, None)]:
        history += [window.current] * round(pause * 100)
        now = len(history) / 100
        if calls is not None:
            window.note(now, calls)
    period = max(1, round(period * 100)) / 100
    seen = history[-round(period * 100) :]
    if not seen:
        return
    window.forget(now - period)
    assert window.aggregate(now, period, MEAN) == pytest.approx(sum(seen) / len(seen), abs=1e-6)
    for how, expected in ((MAX, max(seen)), (MIN, min(seen))):
        assert window.aggregate(now, period + 1e-9, how) >= expected if how == MAX else True
        assert window.aggregate(now, period - 1e-9, how) == expected


@given(
    loads=st.lists(st.tuples(st.integers(1, 100), st.integers(0, 100)), max_size=20),
    least=st.integers(0, 3),
    up=st.floats(0, 60),
    down=st.floats(0, 60),
)
def test_whatever_happens_the_target_is_in_bounds_and_nobody_waits_for_nothing(loads, least, up, down):
    one = Deployment(
        target=max(least, 1),
        min_replicas=least,
        upscale_delay_s=up,
        downscale_delay_s=down,
        downscale_to_zero_delay_s=down,
    )
    for seconds, calls in loads:
        targets = one.run(seconds, calls, tick_s=1.0)
        assert all(least <= target <= 10 for target in targets)
        assert not calls or all(targets)
