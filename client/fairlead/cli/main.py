"""``fairlead``: the entry point, which works in the base install too, and says what is missing there."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """The program. The commands themselves are in :mod:`fairlead.cli.commands`."""
    try:
        commands = importlib.import_module("fairlead.cli.commands")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich", "click"):
            raise
        sys.exit("fairlead: the command line needs the extra [serve]: pip install 'fairlead[serve]'")
    commands.run_program()
