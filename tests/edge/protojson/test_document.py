from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_gateway.edge.protojson import JsonRefused, document

_TEXT = st.text(st.sampled_from('a:"\\{},u03é\u2028'), max_size=5)
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(_TEXT, inner), max_size=3).map(tuple),
    max_leaves=8,
)


def _written(tree: Any, escape: bool) -> str:
    """JSON text of a tree whose objects are tuples of pairs, names possibly twice."""
    if isinstance(tree, tuple):
        return "{" + ",".join(f"{_written(k, escape)}:{_written(v, escape)}" for k, v in tree) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(_written(item, escape) for item in tree) + "]"
    text = json.dumps(tree, ensure_ascii=False)
    return text.replace(":", "\\u003a") if escape else text


def _has_duplicates(tree: Any) -> bool:
    if isinstance(tree, tuple):
        return len({k for k, _ in tree}) < len(tree) or any(_has_duplicates(v) for _, v in tree)
    return isinstance(tree, list) and any(_has_duplicates(item) for item in tree)


@given(_TREES, st.booleans())
def test_duplicates_are_found_and_nothing_else_is(tree: Any, escape: bool) -> None:
    text = _written(tree, escape)
    if _has_duplicates(tree):
        with pytest.raises(JsonRefused, match="twice"):
            document(text.encode())
    else:
        assert document(text.encode()) == json.loads(text)


def test_a_duplicate_hidden_by_an_escaped_colon() -> None:
    with pytest.raises(JsonRefused, match="twice"):
        document(b'{"a":1,"a":"\\u003a"}')


@pytest.mark.parametrize("body", [b"", b"{", b"{}x", b"\xff", b'"\\ud800"', b"NaN", b"1e400", b"[" * 2000, "\ud800"])
def test_malformed(body: bytes | str) -> None:
    with pytest.raises(JsonRefused):
        document(body)


def test_deeper_than_is_written_again() -> None:
    body = b'{"a":' * 600 + b'{"x":1,"y":2}' + b"}" * 600
    assert document(body)["a"]["a"]
    with pytest.raises(JsonRefused, match="twice"):
        document(body.replace(b'"y"', b'"x"'))


def test_text_and_views() -> None:
    assert document('{"a": "é"}') == document(bytearray('{"a": "é"}'.encode())) == {"a": "é"}
