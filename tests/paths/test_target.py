import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.paths.errors import PathError
from fairlead.paths.target import Target


@pytest.mark.parametrize(
    ("raw", "segments", "single", "multi"),
    [
        (b"", [], "", ""),
        (b"/", [], "/", "/"),
        (b"/a/b", ["a", "b"], "/a/b", "/a/b"),
        (b"/a/", ["a", ""], "/a/", "/a/"),
        (b"//", ["", ""], "//", "//"),
        (b"/a+b", ["a+b"], "/a+b", "/a+b"),  # never a space
        (b"/%2525", ["%25"], "/%25", "/%25"),  # decoded once
        (b"/p%20q", ["p q"], "/p q", "/p q"),
        (b"/%C3%A9", ["é"], "/é", "/é"),
        ("/é".encode(), ["é"], "/é", "/é"),
        (b"/%00%0A", ["\0\n"], "/\0\n", "/\0\n"),
    ],
)
def test_decodes_after_the_split(raw: bytes, segments: list[str], single: str, multi: str) -> None:
    target = Target(raw)
    assert target.segments == segments
    assert target.single(target.text) == single
    assert target.multi(target.text) == multi


def test_an_encoded_slash_is_no_separator() -> None:
    target = Target(b"/a%2Fb%2fc/d%3ae")
    assert [target.single(segment) for segment in target.segments] == ["a/b/c", "d:e"]
    assert [target.multi(segment) for segment in target.segments] == ["a%2Fb%2fc", "d:e"]
    assert ":" not in target.text


@pytest.mark.parametrize(
    "raw",
    [
        b"/%",
        b"/%2",
        b"/%zz",
        b"/a%2",
        b"/%2%46",
        b"/%u0041",
        b"/\xff",
        b"/%ff",
        b"/%C3",
        b"/%C3%2F",
        b"/%ed%b0%af",
        b"/%C0%AF",
    ],
)
def test_what_is_no_text(raw: bytes) -> None:
    with pytest.raises(PathError):
        Target(raw)


@pytest.mark.parametrize("raw", [b"a", b"*", b"%2Fa", b"http://a/b"])
def test_what_does_not_start_with_a_slash(raw: bytes) -> None:
    with pytest.raises(PathError, match="start with"):
        Target(raw)


def test_the_error_repeats_nothing_of_the_path() -> None:
    with pytest.raises(PathError) as caught:
        Target(b"/secret%zz")
    assert "secret" not in str(caught.value)
    assert "byte 7" in str(caught.value)


@given(st.text())
def test_any_text_survives_the_way(text: str) -> None:
    try:
        raw = b"/" + b"".join(b"%%%02x" % byte for byte in text.encode())
    except UnicodeEncodeError:
        return
    assert Target(raw).single(Target(raw).text[1:]) == text


@given(st.binary())
def test_any_bytes_are_a_path_or_a_path_error(raw: bytes) -> None:
    try:
        target = Target(b"/" + raw)
    except PathError:
        return
    target.single(target.text).encode()
    target.multi(target.text).encode()
