"""The table that is printed and the file that is kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.result import Row

RESULTS = Path(__file__).resolve().parent / "results"
VERDICTS = {True: "reached", False: "MISSED", None: "unknown"}


def table(rows: list[Row]) -> str:
    """One line for each row: medians, ratio and its range, target, verdict; notes below."""
    lines: list[tuple[str, ...]] = [("", "Fairlead", "reference", "", "ratio", "of turns", "target", "")]
    lines += [_line(row) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = {1, 2, 4}
    text = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    notes = [f"{row.title}: {row.note}" for row in rows if row.note]
    return "\n".join([*text, *([""] if notes else []), *notes])


def _line(row: Row) -> tuple[str, ...]:
    return (
        row.title,
        f"{_number(row.value)} {row.unit}",
        _number(row.reference_value),
        row.reference_name if row.reference else "",
        "–" if row.ratio is None else f"{row.ratio:.2f}×",
        f"{min(row.ratios):.2f} to {max(row.ratios):.2f}" if len(row.ratios) > 1 else "",
        row.target.text if row.target else "",
        VERDICTS[row.reached] if row.target else "",
    )


def keep(rows: list[Row], *, seconds: float, repeats: int, load: float) -> Path:
    """Writes everything that was measured, and on what, to bench/results; gives the file."""
    now = datetime.now(UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    content = {
        "time": now.isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("fairlead", "grpcio", "protobuf", "uvicorn")},
        "seconds": seconds,
        "repeats": repeats,
        "load_average_before": load,
        "rows": [_row(row) for row in rows],
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def _row(row: Row) -> dict[str, Any]:
    return {
        "title": row.title,
        "unit": row.unit,
        "fairlead": row.value,
        "reference": row.reference_value,
        "reference_name": row.reference_name,
        "ratio": row.ratio,
        "target": row.target.text if row.target else None,
        "reached": row.reached,
        "fairlead_samples": row.fairlead,
        "reference_samples": row.reference,
        "note": row.note,
    }


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _commit() -> str | None:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=RESULTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None
