"""Replicas that load the user's code: what stands at the top level of its modules runs again, and must not deploy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fairlead.wire.errors import FairleadError

_deployment: ContextVar[str] = ContextVar("fairlead_loaded_deployment", default="")


@contextmanager
def importing(deployment: str) -> Iterator[None]:
    """For the time in which a replica loads the code of a deployment."""
    token = _deployment.set(deployment)
    try:
        yield
    finally:
        _deployment.reset(token)


def refuse_while_importing(caller: str) -> None:
    """Raises FairleadError if a replica that loads its code is what calls ``caller``."""
    if deployment := _deployment.get():
        raise FairleadError(
            f"`{caller}` was called while a replica imported the module of deployment {deployment!r}: put the call "
            'under `if __name__ == "__main__":`'
        )
