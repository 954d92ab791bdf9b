"""The retry budget."""

from hypothesis import given
from hypothesis import strategies as st

from fairlead_gateway.routing.budget import RATIO, RESERVE, RetryBudget


def test_a_reserve_is_there_at_once_and_ends():
    budget = RetryBudget()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]


def test_five_calls_earn_a_retry():
    budget = RetryBudget()
    while budget.spend():
        pass
    for _ in range(4):
        budget.earn()
        assert not budget.spend()
    budget.earn()
    budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_the_reserve_does_not_grow_beyond_its_size():
    budget = RetryBudget()
    for _ in range(1000):
        budget.earn()
    assert sum(budget.spend() for _ in range(1000)) == RESERVE


@given(st.lists(st.booleans(), max_size=500))
def test_retries_are_a_share_of_calls(steps: list[bool]):
    budget = RetryBudget()
    earned = spent = 0
    for spend in steps:
        if spend:
            spent += budget.spend()
        else:
            budget.earn()
            earned += 1
        assert spent <= RESERVE + earned * RATIO + 1e-6
