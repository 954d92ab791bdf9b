import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.paths import BUILTIN
from fairlead.paths.spans import spans

UUID = "123e4567-e89b-12d3-a456-426614174000"

Parts = list[tuple[str, str]]

parts = st.lists(
    st.one_of(
        st.sampled_from(sorted(BUILTIN)).map(lambda language: (language, "")),
        st.text("/a1.-", min_size=1, max_size=3).map(lambda literal: ("", literal)),
    ),
    max_size=5,
)
texts = st.one_of(
    st.text("/a1.-\n\udc2f", max_size=12),
    st.lists(st.sampled_from([UUID, UUID.replace("-", ""), "/", "-", "1", "1.5", "a"]), max_size=6).map("".join),
)


def by_regex(text: str, pattern: Parts) -> list[tuple[int, int]] | None:
    groups = (
        f"({BUILTIN[name].regex.replace('(', '(?:')})" if name else f"({re.escape(text)})" for name, text in pattern
    )
    match = re.fullmatch("".join(groups), text)
    return match and [match.span(index + 1) for index in range(len(pattern))]


@given(texts, parts)
def test_finds_what_a_regular_expression_finds(text: str, pattern: Parts) -> None:
    assert spans(text, pattern) == by_regex(text, pattern)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("1.5.5", [("float", ""), ("", "."), ("int", "")]),
        ("1.55", [("float", ""), ("int", "")]),
        ("15", [("float", ""), ("int", "")]),
        ("1.", [("float", ""), ("str", "")]),
        (UUID + UUID, [("uuid", ""), ("uuid", "")]),
        ("a-b-c", [("str", ""), ("", "-"), ("str", "")]),
        ("a/b/c", [("path", ""), ("", "/"), ("path", ""), ("", "/"), ("path", "")]),
        ("a\nb", [("path", ""), ("str", "")]),
        ("", []),
        ("a", []),
        ("", [("path", ""), ("path", "")]),
    ],
)
def test_the_hard_ones(text: str, pattern: Parts) -> None:
    assert spans(text, pattern) == by_regex(text, pattern)
