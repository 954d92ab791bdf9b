"""Paths, queries and bodies bound to messages, against the same values given to json_format as one JSON document."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

import pytest
from google.protobuf import json_format
from hypothesis import example, given
from hypothesis import strategies as st

from fairlead.paths.rules import bindings_of
from fairlead.v1 import control_pb2
from fairlead_gateway.edge.protojson import JsonRefused, ProtoJson
from fairlead_gateway.edge.typed.requests import RequestPlan
from fairlead_gateway.edge.typed.rpc_method import TypedMethod
from tests.edge.typed.schema import SERVICE, library_pool, message

BOOLS = {"true": True, "false": False}


def plan(name, number=0):
    descriptor = library_pool().FindServiceByName(SERVICE).methods_by_name[name]
    method = TypedMethod(descriptor, "a", "d", ProtoJson(library_pool()), control_pb2.JsonOptions())
    return RequestPlan(method, bindings_of(descriptor)[number])


SEARCH = plan("SearchBooks")
CREATE = plan("CreateBook")
MOVE = plan("MoveBook")
UPDATE = plan("UpdateBook")

WORDS = st.text(max_size=5)
NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.sampled_from(["0", "-0", "01", "1.0", "1e3", "1e-1", " 1", "1 ", "+1", "0x10", "", "NaN", "1_0", "٣"]),
)
FLOATS = st.one_of(
    NUMBERS, st.floats().map(str), st.sampled_from(["Infinity", "-Infinity", "inf", "1e400", "-1.5", ".5", "5."])
)
BOOLEANS = st.sampled_from(["true", "false", "True", "1", "", "0", "null"])
ENUMS = st.sampled_from(["GENRE_NOVEL", "GENRE_POETRY", "genre_novel", "1", "99", "-1", "NOVEL", "", "2147483648"])
BYTES = st.one_of(st.binary(max_size=4).map(lambda data: __import__("base64").b64encode(data).decode()), WORDS)
TIMES = st.sampled_from(
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.123+01:00",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "0000-01-01T00:00:00Z",
    ]
)
SPANS = st.sampled_from(["1s", "-1.5s", "1.123456789s", "1h", "s", "", "315576000001s", "1"])
MASKS = st.sampled_from(["title", "title,author.penNames", "pen_names", "", ",", "a.b.c"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
DOCUMENTS = VALUES.map(json.dumps)

# Names of parameters, how the oracle reads their texts, and what texts there are.
FIELDS = {
    "query": (str, WORDS),
    "genres": (str, ENUMS),
    "author.name": (str, WORDS),
    "author.born": (str, NUMBERS),
    "author.penNames": (str, WORDS),
    "author.pen_names": (str, WORDS),
    "minCopies": (str, NUMBERS),
    "min_copies": (str, NUMBERS),
    "lent": (lambda text: BOOLS.get(text, text), BOOLEANS),
    "publishedAfter": (str, TIMES),
    "age": (str, SPANS),
    "readMask": (str, MASKS),
    "filter": (json.loads, DOCUMENTS),
    "anyValue": (json.loads, DOCUMENTS),
    "list": (json.loads, DOCUMENTS),
    "ids": (str, NUMBERS),
    "exact": (lambda text: BOOLS.get(text, text), BOOLEANS),
    "token": (str, BYTES),
    "score": (str, FLOATS),
    "ratio": (str, FLOATS),
    "offset": (str, NUMBERS),
    "count": (str, NUMBERS),
    "pages": (str, NUMBERS),
    "language": (str, WORDS),
    "notes": (str, WORDS),
    "nested.query": (str, WORDS),
    "nested.nested.ids": (str, NUMBERS),
    "nested.author.born": (str, NUMBERS),
}
REPEATED = {"genres", "penNames", "ids", "notes"}
MAPS = {"labels": WORDS, "weights": FLOATS}


@st.composite
def parameters(draw):
    found = []
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.integers(0, 5)) == 0:
            name = draw(st.sampled_from(sorted(MAPS)))
            key = draw(st.sampled_from(["1", "-2", "x", "1.0", ""]))
            found.append((f"{name}[{key}]", draw(MAPS[name])))
        else:
            name = draw(st.sampled_from(sorted(FIELDS)))
            found.append((name, draw(FIELDS[name][1])))
    return found


CAMEL = {"pen_names": "penNames", "min_copies": "minCopies"}


def document(given):
    """The same as one JSON object; None for what no JSON object can say: a name given twice."""
    tree = {}
    for name, text in given:
        if name.endswith("]"):
            field, key = name[:-1].split("[", 1)
            entries = tree.setdefault(field, {})
            if key in entries:
                return None
            entries[key] = text
            continue
        *above, last = (CAMEL.get(each, each) for each in name.split("."))
        holder = tree
        for each in above:
            holder = holder.setdefault(each, {})
        value = FIELDS[name][0](text)
        if last in REPEATED:
            holder.setdefault(last, []).append(value)
        elif last in holder:
            return None
        else:
            holder[last] = value
    return tree


def oracle(tree, message_type):
    """What json_format makes of it; None if it refuses it."""
    found = message(message_type)
    try:
        json_format.ParseDict(tree, found, descriptor_pool=library_pool())
    except (json_format.ParseError, ValueError, TypeError):
        return None
    return found


def bound(request_plan, message_type, params, query, body=b""):
    """What the transcoder makes of it; None if it refuses it."""
    try:
        payload = request_plan.message(params, query, body, "")
    except JsonRefused:
        return None
    return message(message_type).FromString(payload)


@given(parameters())
@example([("count", "1"), ("pages", "2")])
@example([("labels[]", "x"), ("query", "+ %")])
@example([("anyValue", "null"), ("list", "[null]")])
@example([("filter", "[]")])
@example([("weights[1]", "1"), ("weights[1.0]", "2")])
def test_a_query_is_a_json_document(given_parameters):
    query = urlencode(given_parameters).encode()
    ours = bound(SEARCH, "SearchBooksRequest", {}, query)
    tree = document(given_parameters)
    theirs = None if tree is None else oracle(tree, "SearchBooksRequest")
    if theirs is None:
        assert ours is None
    elif ours is not None:
        assert ours == theirs


@given(parameters(), st.randoms(use_true_random=False))
def test_the_order_of_a_query_does_not_matter(given_parameters, random):
    singular = [
        (name, text) for name, text in given_parameters if name.rpartition(".")[2] not in REPEATED | {"pen_names"}
    ]
    shuffled = list(singular)
    random.shuffle(shuffled)
    first = bound(SEARCH, "SearchBooksRequest", {}, urlencode(singular).encode())
    assert first == bound(SEARCH, "SearchBooksRequest", {}, urlencode(shuffled).encode())


BOOK_BODIES = st.dictionaries(
    st.sampled_from(["name", "title", "genre", "author", "copies", "tags", "labels", "extra", "published", "other"]),
    VALUES,
    max_size=4,
)


@given(BOOK_BODIES, WORDS.filter(lambda text: text.strip()), WORDS)
def test_a_body_a_path_and_a_query(body, parent, book_id):
    data = json.dumps(body).encode()
    ours = bound(CREATE, "CreateBookRequest", {"parent": parent}, b"book_id=" + quote(book_id).encode(), data)
    theirs = oracle({"book": body, "parent": parent, "bookId": book_id}, "CreateBookRequest")
    if theirs is None:
        assert ours is None
    elif ours is not None:
        assert ours == theirs


@given(BOOK_BODIES, WORDS.filter(lambda text: text.strip()))
def test_the_path_beats_the_body(body, name):
    ours = bound(UPDATE, "UpdateBookRequest", {"book.name": name}, b"updateMask=title", json.dumps(body).encode())
    theirs = oracle({"book": {**body, "name": name}, "updateMask": "title"}, "UpdateBookRequest")
    if theirs is None:
        assert ours is None
    elif ours is not None:
        assert ours == theirs
    moved = bound(MOVE, "MoveBookRequest", {"name": name}, b"", json.dumps({"name": "other", "position": 1}).encode())
    assert (moved.name, moved.position) == (name, 1)


@given(st.binary(max_size=40), st.binary(max_size=20))
def test_whatever_comes_is_bound_or_refused(query, body):
    """No other exception, and no message that does not fit its own type."""
    bound(SEARCH, "SearchBooksRequest", {}, query)
    bound(MOVE, "MoveBookRequest", {"name": "n"}, query, body)
    bound(CREATE, "CreateBookRequest", {"parent": "p"}, query, body)


@pytest.mark.parametrize("count", [1, 20_000])
def test_parameters_without_end_are_not_remembered(count):
    for number in range(count):
        bound(SEARCH, "SearchBooksRequest", {}, b"labels[%d]=x" % number)
    for depth in range(1, 2000, 400):
        bound(SEARCH, "SearchBooksRequest", {}, b".".join([b"nested"] * depth) + b".query=x")
    known = SEARCH._query._parameters._known
    assert len(known) < 1001
    assert max(len(parameter.fields) for parameter in known.values()) < 10
