import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.paths import PatternError, Template


def shape(template: Template) -> list[str]:
    return ["**" if s.many else "*" if s.literal is None else s.literal for s in template.segments]


@pytest.mark.parametrize(
    ("source", "segments", "verb", "variables"),
    [
        ("/", [], "", []),
        ("/a", ["a"], "", []),
        ("/shelves/{shelf}/books/{book}", ["shelves", "*", "books", "*"], "", [("shelf", 1, 2), ("book", 3, 4)]),
        ("/**", ["**"], "", []),
        ("/*/a/**", ["*", "a", "**"], "", []),
        ("/a:foo", ["a"], "foo", []),
        ("/a/b/c:foo", ["a", "b", "c"], "foo", []),
        ("/a:b:c", ["a"], "b:c", []),
        ("/a/{a.b.c}", ["a", "*"], "", [("a.b.c", 1, 2)]),
        ("/a/{b=**}", ["a", "**"], "", [("b", 1, 2)]),
        ("/a/{b=c/*}", ["a", "c", "*"], "", [("b", 1, 3)]),
        ("/a/{b=c/*/d}", ["a", "c", "*", "d"], "", [("b", 1, 4)]),
        ("/{x.y.z=*/a/b}/c", ["*", "a", "b", "c"], "", [("x.y.z", 0, 3)]),
        ("/{x=**}:my-verb", ["**"], "my-verb", [("x", 0, 1)]),
        ("/a/{b=*}/**:verb", ["a", "*", "**"], "verb", [("b", 1, 2)]),
        ("/a%2Fb/c%3ad/%C3%A9/e=f/@$&'()+,;", ["a/b", "c:d", "é", "e=f", "@$&'()+,;"], "", []),
        ("/v1/{name=messages/*}", ["v1", "messages", "*"], "", [("name", 1, 3)]),  # http.proto's first example
        ("/v1/{message_id}/{sub.subfield}", ["v1", "*", "*"], "", [("message_id", 1, 2), ("sub.subfield", 2, 3)]),
    ],
)  # fmt: skip
def test_parses(source: str, segments: list[str], verb: str, variables: list[tuple[str, int, int]]) -> None:
    template = Template(source)
    assert shape(template) == segments
    assert template.verb == verb
    assert [(v.field_path, v.start, v.end) for v in template.variables] == variables


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "starts with '/'"), ("a", "starts with '/'"), ("{x}", "starts with '/'"), (":verb", "starts with '/'"),
        ("//", "empty"), ("/a/", "empty"), ("/a//b", "empty"), ("/:verb", "empty"), ("/a/:verb", "empty"),
        ("/a:", "no verb"), ("/*:", "no verb"), ("/{v}:", "no verb"),
        ("/a:b/c", "stands at the end"), ("/{x}:b/{y}", "stands at the end"), ("/a:b*", "is not a verb"),
        ("/a:%62", "is not a verb"), ("/a:b c", "is not a verb"), ("/a:{x}", "is not a verb"),
        ("/{}", "path of a field"), ("/{=*}", "path of a field"), ("/{x.}", "path of a field"),
        ("/{.x}", "path of a field"), ("/{x..y}", "path of a field"), ("/{1x}", "path of a field"),
        ("/{x-y}", "path of a field"), ("/{ x}", "path of a field"), ("/{x:int}", "path of a field"),
        ("/{x=}", "empty"), ("/{x=/b}", "empty"), ("/{x=a/}", "empty"),
        ("/a/{", "without '}'"), ("/a/{v", "without '}'"), ("/a}", "without '{'"), ("/{x}}", "without '{'"),
        ("/{v=a/{w=b}}", "another one"), ("/{{v}}", "another one"),
        ("/{x=a:verb}", "outside of variables"),
        ("/a{x}", "neither"), ("/{x}a", "whole segment"), ("/{x}a{y}", "path of"), ("/{x}{y}", "path of"),
        ("/a*", "neither"), ("/*a", "neither"), ("/***", "neither"), ("/a?b", "neither"), ("/a#b", "neither"),
        ("/a b", "neither"), ("/a\n", "neither"),
        ("/**/a", "must be the last"), ("/{x=**}/a", "must be the last"), ("/{x=**/a}", "must be the last"),
        ("/**/**", "must be the last"), ("/{x=**}/{y=**}", "must be the last"),
        ("/{x}/{x}", "'x' is bound twice"), ("/{a.b=x/*}/{a.b=**}", "'a.b' is bound twice"),
        ("/{a.b}/{a}", "a part of 'a'"), ("/{a}/{a.b.c}", "a part of 'a'"), ("/{a}/{a_b}/{a.c}", "a part of 'a'"),
        ("/%", "malformed"), ("/%zz", "malformed"), ("/%ff", "UTF-8"), ("/\ud800", "UTF-8"),
    ],
)  # fmt: skip
def test_refuses(source: str, problem: str) -> None:
    with pytest.raises(PatternError) as caught:
        Template(source)
    assert problem in str(caught.value)
    assert repr(source) in str(caught.value)


@given(st.text(alphabet=st.one_of(st.sampled_from("/{}*:=.%2aFx_"), st.characters())))
def test_any_text_is_a_template_or_a_pattern_error(text: str) -> None:
    for source in (text, "/" + text):
        try:
            template = Template(source)
        except PatternError:
            continue
        assert template.source == source
        assert all(not segment.many for segment in template.segments[:-1])
