"""What the library takes from the environment, read when it is asked for.

The one place outside ``__main__`` modules and the command line that reads environment variables.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fairlead.wire.errors import FairleadError

ADDRESS = "FAIRLEAD_ADDRESS"
"""Names the instance to use: ``unix:/path`` of its controller, or ``host:port`` of its gRPC port, for calls only."""
TOKEN = "FAIRLEAD_TOKEN"  # noqa: S105 - the name of the variable
"""The token that authenticates this program to the instance at ``FAIRLEAD_ADDRESS``."""
STATE_DIR = "FAIRLEAD_STATE_DIR"
"""The directory of instances and their sockets."""

_LONGEST_SOCKET_NAME = "/i-4194304-ffff/r-ffffffff.sock"
_UNIX_PATH_LIMIT = 107


def address() -> str | None:
    """The address that ``FAIRLEAD_ADDRESS`` names; None if it is not set or empty."""
    return os.environ.get(ADDRESS) or None


def token() -> str | None:
    """The token in ``FAIRLEAD_TOKEN``; None if it is not set or empty."""
    return os.environ.get(TOKEN) or None


def state_directory() -> Path:
    """The directory of this user's instances: made if need be, owner-only.

    ``FAIRLEAD_STATE_DIR``, else ``$XDG_RUNTIME_DIR/fairlead``, else ``/tmp/fairlead-<uid>``. Whoever can write to it
    can run code as this user, so that a directory of somebody else's, or a symbolic link in its place, is refused.
    Raises FairleadError for that, and for a path that is too long for Unix sockets; OSError if it cannot be made.
    """
    path = _state_path()
    if len(os.fsencode(path)) + len(_LONGEST_SOCKET_NAME) > _UNIX_PATH_LIMIT:
        raise FairleadError(
            f"the state directory {path} has too long a path for Unix sockets (at most "
            f"{_UNIX_PATH_LIMIT - len(_LONGEST_SOCKET_NAME)} bytes); set {STATE_DIR} to a shorter one"
        )
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise FairleadError(f"the state directory {path} is not a directory; remove it or set {STATE_DIR}")
    if status.st_uid != os.getuid():
        raise FairleadError(
            f"the state directory {path} belongs to user {status.st_uid}, not to this one ({os.getuid()}); "
            f"set {STATE_DIR} to a directory of your own"
        )
    if stat.S_IMODE(status.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def _state_path() -> Path:
    if chosen := os.environ.get(STATE_DIR):
        return Path(chosen).absolute()
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime).absolute() / "fairlead"
    return Path(f"/tmp/fairlead-{os.getuid()}")  # noqa: S108 - owner and mode are checked
