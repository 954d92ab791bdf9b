import pytest

from fairlead_gateway.control.backoff import FIRST_S, LONGEST_S, Backoff


def test_waits_double_up_to_a_bound():
    backoff, now, waits = Backoff(), 0.0, []
    for _ in range(10):
        backoff.failed(now)
        waits.append(backoff.not_before - now)
        now = backoff.not_before
    assert waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert waits[-1] == pytest.approx(LONGEST_S)


def test_failures_at_one_time_count_once():
    backoff = Backoff()
    for _ in range(5):
        backoff.failed(1.0)
    assert backoff.not_before == pytest.approx(1.0 + FIRST_S)


def test_what_has_recovered_starts_over():
    backoff = Backoff()
    backoff.failed(0.0)
    backoff.failed(1.0)
    backoff.recovered()
    backoff.failed(100.0)
    assert backoff.not_before == pytest.approx(100.0 + FIRST_S)
