"""The commands of ``fairlead``. Each is loaded when it is typed: most need little of what the others do."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import typer
from typer.core import TyperGroup

from fairlead.cli.errors import ConfigFileError, ImportPathError
from fairlead.cli.output import say
from fairlead.version import __version__

_UsageError: type[Exception] = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""What a wrong command line raises; typer itself exports no more than some of its kinds."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command, which may not be loaded yet."""

    home: str
    """Where it is: "module:function"."""
    help: str
    """The first line of its help."""
    example: str
    """A command line."""

    def function(self) -> Callable[..., Any]:
        """What it runs, with its parameters and its whole help."""
        module, _, name = self.home.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(f"fairlead.cli.{module}"), name)
        return function


COMMANDS = {
    "run": Command(
        "run_command:run",
        "Serve an application until Ctrl-C or SIGTERM.",
        "run examples.digits.app:app --http-port 8000 --grpc-port 9000",
    ),
    "start": Command(
        "start_command:start",
        "Start the standing instance: it belongs to no program, and ends by `fairlead shutdown`.",
        "start --http-port 8000 --grpc-port 9000 --gateways 2",
    ),
    "deploy": Command(
        "deploy_command:deploy",
        "Make an instance run what a file says: deploy its applications, and delete those of an earlier file.",
        "deploy examples/digits/config.yaml",
    ),
    "status": Command(
        "application_commands:status",
        "Print the state of an instance. Exit status 0: all applications run; 3: some do not; 1: there is no instance.",
        "status digits",
    ),
    "call": Command(
        "call_command:call",
        "Call a method, and print what it returns as JSON.",
        "call digits/Digits.classify --json @examples/digits/seven.json",
    ),
    "scale": Command(
        "application_commands:scale",
        "Change how many replicas a deployment has. The next deploy of its application says it anew.",
        "scale digits/Model 2",
    ),
    "config": Command(
        "deploy_command:config",
        "Print the configuration of the applications that were deployed from a file.",
        "config --json",
    ),
    "logs": Command(
        "standing_commands:logs",
        "Print what the standing instance's processes have written; without a name, list their files.",
        "logs controller --lines 20",
    ),
    "traffic": Command(
        "traffic:traffic",
        "Spread an application's calls over several deployments: for canaries, shadows and moves without a pause.",
        "traffic digits Digits=100",
    ),
    "delete": Command("application_commands:delete", "Drain and delete applications.", "delete digits"),
    "shutdown": Command(
        "standing_commands:shutdown", "Drain and delete all applications, and end the instance.", "shutdown --yes"
    ),
    "build": Command(
        "build_proto:build",
        "Print a configuration file to begin with, or what an application is made of.",
        "build --proto examples.digits.app:app",
    ),
}
"""By name. What their modules import is not there until one is typed."""


class _Commands(TyperGroup):
    """Lists all commands, and loads the one that is typed."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, _loaded(name) if name in COMMANDS else command, rest


app = typer.Typer(
    name="fairlead",
    cls=_Commands,
    help="Serve Python classes over gRPC, Python handles and HTTP/JSON.",
    epilog="Example: [bold]fairlead run examples.digits.app:app[/bold], then in another terminal "
    "[bold]fairlead call default/Digits.classify --json @examples/digits/seven.json[/bold]",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def program() -> None:
    """Serve Python classes over gRPC, Python handles and HTTP/JSON."""


@app.command(epilog="Example: [bold]fairlead version[/bold]")
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _not_loaded() -> None:
    """What stands for a command in the list of all."""


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.help)(_not_loaded)


def _loaded(name: str) -> Any:
    if name not in ("run", "start"):  # whose children inherit it
        # Read when gRPC is loaded. What it prints of its own says nothing that the command's line does not.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    one = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    one.command(name, epilog=f"Example: [bold]fairlead {COMMANDS[name].example}[/bold]")(COMMANDS[name].function())
    return typer.main.get_command(one)


def run_program() -> None:
    """Runs the command line. What a user can mend is one line and exit status 1; a defect keeps its traceback.

    A wrong command line has exit status 2.
    """
    try:
        sys.exit(app(standalone_mode=False))
    except _UsageError as error:
        sys.exit(_say_usage(error))
    except typer.Abort:
        sys.exit("fairlead: given up; nothing was changed")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not _can_be_mended(error):
            raise
        sys.exit(f"fairlead: {error}")


def _say_usage(error: Any) -> int:
    """Tells what is wrong with a command line, in one line; of `fairlead` alone, what there is. The exit status."""
    message = " ".join(error.format_message().split())
    if error.ctx is None or not message or "Usage:" in message:
        error.show()
    else:
        say(f"{message.rstrip('.')}; `{error.ctx.command_path} --help` says more")
    return int(error.exit_code)


def _can_be_mended(error: Exception) -> bool:
    """Whether an error says what a user can mend: ours, and what the library's own validation raises.

    What the module that was imported raises is told as an ImportPathError.
    """
    from fairlead.wire.errors import FairleadError  # with gRPC, which commands that succeed may do without

    if isinstance(error, ConfigFileError | ImportPathError | FairleadError | RuntimeError | OSError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ValueError | TypeError) and bool(frames) and "/fairlead/" in frames[-1].filename
