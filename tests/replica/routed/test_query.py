"""Queries, with the standard library as the oracle of those that are well-formed."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_replica.routed.problems import BadRequestError
from fairlead_replica.routed.query import parse

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6))
def test_what_is_encoded_is_read_again(pairs: list[tuple[str, str]]) -> None:
    expected: dict[str, list[str]] = {}
    for name, value in pairs:
        expected.setdefault(name, []).append(value)
    assert parse(urlencode(pairs).encode()) == expected


@given(st.binary(max_size=40))
def test_anything_is_read_as_the_library_does_or_refused(query: bytes) -> None:
    try:
        found = parse(query)
    except BadRequestError:
        return
    text = query.decode()
    assert found == parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=None)


@pytest.mark.parametrize("query", [b"%", b"a=%f", b"%zz=1", b"a=%ff", b"a=\xff"])
def test_what_is_refused(query: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse(query)


def test_plus_is_a_space_and_names_repeat() -> None:
    assert parse(b"a=1+2%2B3&&b&a=%20&c=x=y") == {"a": ["1 2+3", " "], "b": [""], "c": ["x=y"]}
