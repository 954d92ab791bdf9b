"""What all commands print: lines for people on stderr, results on stdout, JSON for scripts."""

from __future__ import annotations

import sys
from typing import Any

import orjson
import typer


def say(line: str) -> None:
    """Tells people something; stdout is for results."""
    typer.echo(f"fairlead: {line}", err=True)


def print_json(value: Any) -> None:
    """Prints a result for scripts: indented on a terminal, else one line."""
    options = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    typer.echo(orjson.dumps(value, option=options).decode())
