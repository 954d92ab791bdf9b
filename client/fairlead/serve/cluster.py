"""What scripts for Ray do about their cluster. Here there is none, so that most of it has nothing to do."""

from __future__ import annotations

import logging
from typing import Any

from fairlead.serve import api
from fairlead.serve.response import DeploymentResponse as ObjectRef

logger = logging.getLogger("fairlead.serve")

__all__ = ["ObjectRef", "init", "is_initialized", "shutdown"]


def init(address: str | None = None, **options: Any) -> None:
    """Does nothing: instances are started, or found, by the first ``serve.*`` call that needs one.

    Accepted for scripts that were written for Ray; what they pass is named in a debug line.
    """
    if address is not None or options:
        logger.debug("init(): there is no cluster; without effect: %s", {"address": address, **options})


def is_initialized() -> bool:
    """Whether an instance runs that this process would use."""
    return api.is_running()


def shutdown() -> None:
    """As ``serve.shutdown()`` for an instance of this process's own; a standing one stays."""
    api.shutdown_own()
