"""The user's standing instance: one that belongs to no program, and outlives those that use it.

Its directory is ``standing`` in the state directory; ``docs/deploy.md`` says what is in it.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from fairlead.lifetime import PROCESSES, recorded_processes, runs_with
from fairlead.serve import environment, instance_services
from fairlead.serve.controller_process import MODULE, ControllerProcess, check_installation
from fairlead.serve.doors import Doors
from fairlead.serve.orphans import end_orphans
from fairlead.serve.owned_instance import answers

LOGS = "logs"
"""The directory of log files in that of the instance; ``fairlead_gateway.control.log_files`` writes them."""
PATIENCE_S = 600.0
"""Seconds that gateway workers and replicas serve without a controller, unless the start says otherwise."""

_START_S = 60.0
_ORPHANS_S = 30.0
_STATE = ("state.db", "state.db-wal", "state.db-shm")


def directory() -> Path:
    """Where the standing instance of this user has its state, whether there is one or not."""
    return environment.state_directory() / "standing"


def address() -> str | None:
    """The address of its controller, also while that is away; None: there is no standing instance."""
    socket = directory() / "controller.sock"
    return f"unix:{socket}" if (socket.exists() and answers(socket)) or orphans() else None


def orphans(there: Path | None = None) -> dict[int, str]:
    """The processes that serve without a controller, by id. ``there``: the instance's directory, if it is another."""
    there = there or directory()
    mark = f"unix:{there / 'controller.sock'}"
    if answers(there / "controller.sock"):
        return {}
    return {pid: name for pid, name in recorded_processes(there / PROCESSES).items() if runs_with(pid, mark)}


def absence(address: str) -> str:
    """Why the controller of the standing instance at an address cannot be asked; empty: it can, or nothing runs there.

    One that has ended without being told to leaves the others serving.
    """
    there = Path(address.removeprefix("unix:")).parent
    left = orphans(there) if (there / _STATE[0]).exists() else {}
    if not left:
        return ""
    return (
        f"the standing instance in {there} has no controller: it has ended without being told to, and {len(left)} "
        f"processes serve on without it; `fairlead start` brings it back, `fairlead shutdown` ends them"
    )


def left_gateways(address: str) -> list[str]:
    """Where gateway workers take calls from this user while the controller at that address is away."""
    there = Path(address.removeprefix("unix:")).parent
    names = sorted(orphans(there).values())
    return [f"wire:{there / name}.wire" for name in names if name.startswith("gateway-")]


def start(doors: Doors | None, *, patience_s: float = PATIENCE_S) -> None:
    """Starts its controller, detached from this process, and waits until it serves.

    ``doors``: None: those of the last start. Raises RuntimeError with one line that says why it cannot,
    TimeoutError after 60 s.
    """
    there = _prepared(doors)
    arguments, secrets = _arguments(there, doors, patience_s), {} if doors is None else doors.secrets()
    log = os.open(there / LOGS / "controller.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        process = ControllerProcess(arguments, secrets or Doors().secrets(), log=log, cwd=there)
    finally:
        os.close(log)
    try:
        process.wait_for("ready", _START_S)
    finally:
        process.close()
        # Its parent is told of its end, also when that comes years from now.
        threading.Thread(target=process.popen.wait, name="fairlead-controller", daemon=True).start()


def become(doors: Doors | None, *, patience_s: float = PATIENCE_S) -> None:
    """Turns this process into its controller, which logs to stderr: for those that watch over processes themselves."""
    there = _prepared(doors)
    os.environ.update((doors or Doors()).secrets())
    command = [sys.executable, "-P", "-m", MODULE, *_arguments(there, doors, patience_s)]
    os.execv(sys.executable, command)  # noqa: S606


def end_orphans_for_good() -> None:
    """Ends what serves without a controller, and forgets what was deployed. Blocks until it has ended."""
    there = directory()
    end_orphans(there, _ORPHANS_S)
    for name in (*_STATE, PROCESSES, "controller.sock"):
        (there / name).unlink(missing_ok=True)


def _prepared(doors: Doors | None) -> Path:
    check_installation()
    there = directory()
    there.mkdir(mode=0o700, exist_ok=True)
    (there / LOGS).mkdir(mode=0o700, exist_ok=True)
    if doors is not None and doors.grpc is not None:
        instance_services.keep(there, doors.grpc.grpc_servicer_functions)
    if doors is not None:
        doors.keep(there)
    return there


def _arguments(there: Path, doors: Doors | None, patience_s: float) -> Sequence[str]:
    arguments = ["--directory", str(there), "--standing", "--log-level", "info"]
    if doors is None:
        return [*arguments, "--as-before", "--controller-patience", str(patience_s), *Doors().arguments()]
    return [*arguments, "--controller-patience", str(patience_s), *doors.arguments()]


def remove() -> None:
    """Removes the directory of an instance that has ended, with its logs."""
    shutil.rmtree(directory(), ignore_errors=True)
