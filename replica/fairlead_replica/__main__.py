"""``python -m fairlead_replica``: the process. The only place that reads arguments and sets up signals and output."""

from __future__ import annotations

import argparse
import asyncio
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

import uvloop

from fairlead.serve import tracing
from fairlead_replica.replica import Replica, ReplicaOptions

_EXIT_PATIENCE_S = 3.0


def parse(arguments: Sequence[str] | None = None) -> ReplicaOptions:
    """The command line as options. Exits with status 2 for a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m fairlead_replica", description="Hosts one instance of a class.")
    parser.add_argument("--controller", required=True, help="the controller's address, unix:/path or host:port")
    parser.add_argument("--replica-id", required=True, help="the id to register with")
    parser.add_argument("--owner-pid", type=int, help="end when this process is gone")
    parser.add_argument(
        "--controller-patience",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="drain and end after this many seconds without a controller (default: %(default)s)",
    )
    values = parser.parse_args(arguments)
    return ReplicaOptions(
        controller=values.controller,
        replica_id=values.replica_id,
        owner_pid=values.owner_pid,
        patience_s=values.controller_patience,
    )


async def live(options: ReplicaOptions) -> int:
    """Runs the replica until it ends, or is told to by SIGTERM. Returns the exit status."""
    replica = Replica(options)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, replica.stop, "SIGTERM")
    return await replica.run()


def main() -> None:
    """Runs a replica and exits with its status."""
    options = parse()
    # What the user prints belongs in the controller's log when it is printed, not when a buffer is full.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    _set_up_logging()
    tracing.set_up(os.environ, f"fairlead-replica {options.replica_id.rpartition('#')[0]}")
    status = uvloop.run(live(options))
    # Threads of the user's that never return must not keep the process: it has said goodbye.
    threading.Thread(target=_exit_soon, args=(status,), daemon=True).start()
    sys.exit(status)


def _set_up_logging() -> None:
    """For our own loggers only: the root logger is the user's to configure."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    for name in ("fairlead", "fairlead_replica"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _exit_soon(status: int) -> None:
    time.sleep(_EXIT_PATIENCE_S)
    os._exit(status)


if __name__ == "__main__":
    main()
