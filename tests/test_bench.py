"""The parts of the benchmark that judge: bounds, medians, and what load generators print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import load_tools, report
from bench.result import Row, Target
from bench.side import SideError
from bench.sides import Sides, UnavailableError

H2LOAD = """\
finished in 3.00s, 5498.00 req/s, 1.02MB/s
requests: 16494 total, 16526 started, 16494 done, 16494 succeeded, {failed} failed, 0 errored, 0 timeout
traffic: 3.06MB (3207280) total, 1.10MB (1150000) headers (space savings 94%), 1.65MB ({data}) data
"""


def test_ratios_and_values_are_judged_by_their_medians() -> None:
    row = Row(title="a", unit="/s", reference_name="b", target=Target(text="≥ 4×", at_least_ratio=4.0))
    assert row.reached is None
    row.fairlead, row.reference = [400.0, 1.0, 500.0], [100.0, 90.0, 110.0]
    assert (row.value, row.reference_value, row.ratio, row.reached) == (400.0, 100.0, 4.0, True)
    row.fairlead = [399.0]
    assert row.reached is False


@pytest.mark.parametrize(("value", "reached"), [(1.5, True), (1.6, False), (None, None)])
def test_bounds_without_a_reference(value: float | None, reached: bool | None) -> None:
    assert Target(text="≤ 1.5 s", at_most=1.5).reached(value, None) is reached


def test_a_side_that_cannot_be_measured_leaves_the_other_one(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> float:
        raise UnavailableError("needs wrk; on Debian and Ubuntu: apt install wrk")

    with Sides(seconds=0.1, repeats=3) as sides:
        row = sides.sample(Row(title="a", unit="/s", reference_name="b"), fairlead=lambda: 2.0, reference=broken)
    assert (row.fairlead, row.reference) == ([2.0, 2.0, 2.0], [])
    assert "apt install wrk" in row.note
    assert "not measured" in capsys.readouterr().out


def test_the_table_and_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    row = Row(title="calls", unit="/s", reference_name="bare", target=Target(text="≥ 4×", at_least_ratio=4.0))
    row.fairlead, row.reference, row.note = [8000.0], [1000.0], "a note"
    printed = report.table([row])
    assert "8,000 /s" in printed
    assert "8.00×" in printed
    assert "reached" in printed
    assert "calls: a note" in printed
    kept = json.loads(report.keep([row], seconds=1.0, repeats=1, load=0.0).read_text())
    assert kept["rows"][0]["ratio"] == 8.0
    assert kept["rows"][0]["reached"] is True


@pytest.mark.parametrize(("failed", "data", "good"), [(0, 1731870, True), (1, 1731870, False), (0, 0, False)])
def test_h2load_counts_only_answers_with_data(
    failed: int, data: int, good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_tools, "_run", lambda command, seconds: H2LOAD.format(failed=failed, data=data))
    if good:
        assert load_tools.h2load("http://x", tmp_path, least_answer=100, seconds=1) == 5498.0
    else:
        with pytest.raises(SideError):
            load_tools.h2load("http://x", tmp_path, least_answer=100, seconds=1)


def test_a_missing_load_tool_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="apt install nghttp2-client"):
        load_tools.h2load("http://x", tmp_path, least_answer=1, seconds=1)
