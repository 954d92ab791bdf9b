"""What docs/autoscaling.md says of simulated loads."""

import pytest

from bench.simulations.autoscaling import BURSTS, DIURNAL, OSCILLATING, PICTURE, STEP, settings, simulate
from bench.simulations.plot import Panel, draw

WITHIN = pytest.approx(1.0, abs=0.1)
SEEDS = range(1, 4)


@pytest.fixture(params=SEEDS)
def run(request):
    return lambda shape, **changes: simulate(shape, settings(**changes), seed=request.param)


def test_a_step_is_followed_once_and_held(run):
    step = run(STEP)
    assert step.turns() <= 1, "up once, down once"
    assert step.load_factor(60, 300) == WITHIN
    assert step.load_factor(375, 1500) == WITHIN, "75 s after the step: look-back, delay, and time to start"
    assert step.load_factor(2400, 2700) == WITHIN
    assert min(step.targets[step.index(1500) : step.index(2080)]) > 40, "nothing goes before the delay is over"
    assert max(step.waiting) == 0


def test_bursts_are_served_by_those_that_are_there(run):
    bursts = run(BURSTS)
    assert bursts.turns() <= 1
    settled = bursts.targets[bursts.index(700) :]
    assert max(settled) - min(settled) <= 3
    assert max(bursts.waiting) == 0


def test_a_day_is_followed_within_a_tenth(run):
    day = run(DIURNAL)
    assert day.turns() <= 5
    for hour in range(24):
        assert day.load_factor(hour * 3600, (hour + 1) * 3600) == WITHIN, hour
    assert max(day.waiting) == 0


def test_an_oscillation_faster_than_the_delays_moves_nothing(run):
    wave = run(OSCILLATING)
    assert wave.turns(300) == 0
    settled = wave.targets[wave.index(300) :]
    assert max(settled) - min(settled) <= 2
    assert max(wave.waiting) == 0


def test_without_delays_it_would_flap(run):
    """So that the claims above are about the decisions, not about loads that are easy."""
    wave = run(OSCILLATING, look_back_period_s=0.5, upscale_delay_s=0, downscale_delay_s=0)
    assert wave.turns(300) > 100


def test_the_picture_is_of_these_runs():
    panels = []
    for shape in (STEP, BURSTS, DIURNAL, OSCILLATING):
        one = simulate(shape, settings())
        panels.append(Panel(title=shape.name, seconds=shape.seconds, needed=one.needed, replicas=one.replicas))
    assert PICTURE.read_text() == draw(panels), "draw it anew: python -m bench.simulations.autoscaling"
