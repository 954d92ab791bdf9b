from hypothesis import given
from hypothesis import strategies as st

from fairlead_gateway.control.lines import LONGEST_LINE, LineSplitter


def test_lines_are_cut_at_their_ends():
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntw") == ["one"]
    assert splitter.feed(b"o\r\n\nthree") == ["two", ""]
    assert splitter.finish() == ["three"]
    assert splitter.finish() == []


def test_a_line_without_an_end_does_not_pile_up():
    splitter = LineSplitter()
    lines = [line for _ in range(10) for line in splitter.feed(b"x" * LONGEST_LINE)]
    assert len(lines) == 9
    assert {len(line) for line in lines} == {LONGEST_LINE}


def test_a_long_line_in_one_piece_is_cut_too():
    assert [len(line) for line in LineSplitter().feed(b"x" * (LONGEST_LINE + 5) + b"\n")] == [LONGEST_LINE, 5]


def test_what_is_no_text_is_escaped():
    assert LineSplitter().feed(b"\xff\n") == ["\\xff"]


@given(st.lists(st.binary(max_size=40)))
def test_nothing_is_lost(pieces):
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    whole = LineSplitter()
    assert lines + splitter.finish() == whole.feed(b"".join(pieces)) + whole.finish()
