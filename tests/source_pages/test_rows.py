"""Each row of the tables on the source pages has a test that is named by it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = (*TESTS.glob("source_pages/test_*.py"), TESTS / "e2e/test_web_servers.py")
ROWS = {"a": 30, "b": 19, "c": 27}
"""How many rows each table has. The 20th of the second one only names other pages."""
NOTHING_TO_CHECK = {"c18"}
"""What HTTP cannot do."""


def named() -> set[str]:
    """The rows in the names of all tests."""
    names = (name for file in FILES for name in re.findall(r"def test_((?:[abc]\d+_)+)", file.read_text()))
    return {row for name in names for row in name.strip("_").split("_")}


@pytest.mark.parametrize("table", ROWS)
def test_every_row_has_a_test(table: str) -> None:
    rows = {f"{table}{number}" for number in range(1, ROWS[table] + 1)} - NOTHING_TO_CHECK
    assert rows - named() == set()
