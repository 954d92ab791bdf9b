"""What all commands print: lines for people on stderr, results on stdout, JSON for scripts."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import typer


def say(line: str) -> None:
    """Tells people something; stdout is for results."""
    typer.echo(f"fairlead: {line}", err=True)


@contextlib.contextmanager
def said_if_long(line: str, *, after_s: float = 1.0) -> Iterator[None]:
    """Tells people why there is a pause, if the block takes longer than so many seconds."""
    timer = threading.Timer(after_s, lambda: say(line))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def print_json(value: Any) -> None:
    """Prints a result for scripts: indented on a terminal, else one line."""
    options = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    typer.echo(orjson.dumps(value, option=options).decode())
