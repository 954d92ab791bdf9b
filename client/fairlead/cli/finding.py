"""Which instance a command is for."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fairlead.serve import environment, standing
from fairlead.serve.instance import Instance
from fairlead.serve.owned_instance import answers
from fairlead.wire.errors import FairleadError

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        help="The instance: unix:/path of a controller, host:port or https://host:port. "
        "Default: FAIRLEAD_ADDRESS, else the standing instance, else the only one that runs.",
    ),
]


def choose(address: str | None) -> None:
    """Has everything that this process does from now on be for that instance.

    None: as the option's help says. Raises FairleadError if there is none, or there are several.
    """
    if address is not None:
        os.environ[environment.ADDRESS] = address
    elif environment.address() is None and standing.address() is None:
        os.environ[environment.ADDRESS] = _only_one()


def find(address: str | None = None) -> Instance:
    """A connection to that instance, chosen as by :func:`choose`."""
    choose(address)
    there = environment.address() or standing.address()
    assert there is not None
    return Instance(there)


def _only_one() -> str:
    """The instance of a program that runs, `fairlead run` among them."""
    sockets = sorted(environment.state_directory().glob("i-*-*/controller.sock"))
    running = [f"unix:{socket}" for socket in sockets if answers(socket)]
    if not running:
        raise FairleadError("no instance runs; `fairlead start` starts one, or set FAIRLEAD_ADDRESS")
    if len(running) > 1:
        raise FairleadError(f"several instances run; say by --address which one is meant: {', '.join(running)}")
    return running[0]
