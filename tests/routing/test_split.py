import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_gateway.routing.split import Part, Split, number_of

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda shares: sum(shares) > 0.01)
NUMBERS = st.floats(0, 1, exclude_max=True)


def split(shares, shadows=()):
    return Split(
        [Part(index, share) for index, share in enumerate(shares)],
        [Part(index, share) for index, share in enumerate(shadows)],
    )


def test_keys_stand_for_the_numbers_that_the_classic_api_draws():
    expected = {"user-1": 0.11384829254169548, "user-2": 0.97078859381228, "abc": 0.8684517886823742}
    assert {key: number_of(key) for key in expected} == expected


def test_backends_get_their_shares():
    rand, made = random.Random(1), split([0.7, 0.2, 0.1])
    seen = Counter(made.backend(rand.random()) for _ in range(20_000))
    # Three standard deviations of the binomial distribution.
    for index, share in enumerate([0.7, 0.2, 0.1]):
        assert abs(seen[index] - 20_000 * share) < 3 * (20_000 * share * (1 - share)) ** 0.5


def test_keys_spread_as_calls_without_keys_do():
    made = split([0.5, 0.5])
    seen = Counter(made.backend(number_of(f"user-{index}")) for index in range(4000))
    assert abs(seen[0] - 2000) < 3 * 1000**0.5


def test_shadows_get_their_shares_and_small_ones_calls_of_larger_ones():
    rand, made = random.Random(2), split([1.0], [1.0, 0.5, 0.1, 0.0])
    seen = [made.shadows(rand.random()) for _ in range(10_000)]
    counts = Counter(index for shadows in seen for index in shadows)
    assert counts[0] == 10_000
    assert abs(counts[1] - 5000) < 150
    assert abs(counts[2] - 1000) < 90
    assert counts[3] == 0
    assert all(1 in shadows for shadows in seen if 2 in shadows)


@given(shares=SHARES, number=NUMBERS)
def test_every_number_has_one_backend_and_never_one_without_a_share(shares, number):
    made = split(shares)
    backend = made.backend(number)
    assert shares[backend] > 0
    assert made.backend(number) == backend


@given(shares=SHARES, number=NUMBERS, other=NUMBERS)
def test_backends_own_intervals_in_their_order(shares, number, other):
    made = split(shares)
    if number <= other:
        assert made.backend(number) <= made.backend(other)


@given(before=st.floats(0.01, 0.99), after=st.floats(0.01, 0.99), number=NUMBERS)
def test_a_canary_that_grows_takes_calls_and_gives_none_back(before, after, number):
    """Backends are in the order of their names, so of two only the boundary moves."""
    small, large = sorted([before, after])
    if split([1 - small, small]).backend(number) == 1:
        assert split([1 - large, large]).backend(number) == 1


@pytest.mark.parametrize("number", [0.0, 0.3, 1.0 - 2**-53])
def test_where_a_backend_is_gone_the_others_take_its_calls(number):
    assert split([0.2, 0.0]).backend(number) == 0
