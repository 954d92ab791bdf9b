"""What the library takes from the environment, read when it is asked for.

The one place outside ``__main__`` modules and the command line that reads environment variables.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fairlead import variables
from fairlead.wire.credentials import TLS_SCHEME, Credentials
from fairlead.wire.errors import FairleadError

ADDRESS = "FAIRLEAD_ADDRESS"
"""Names the instance to use: ``unix:/path`` of its controller, or ``host:port`` of its gRPC port, for calls only;
``https://host:port`` if that speaks TLS."""
TOKEN = variables.TOKEN
"""The token that instances ask for on their ports, and that authenticates this program to that at FAIRLEAD_ADDRESS."""
TLS_CA = "FAIRLEAD_TLS_CA"
"""The file of authorities that the certificate of the instance at ``FAIRLEAD_ADDRESS`` may come from."""
TLS_CERTIFICATE = "FAIRLEAD_TLS_CERT"
"""The file of this program's own certificate, for an instance at ``FAIRLEAD_ADDRESS`` that asks for one."""
TLS_KEY = "FAIRLEAD_TLS_KEY"
"""The file of the private key of that certificate."""
STATE_DIR = "FAIRLEAD_STATE_DIR"
"""The directory of instances and their sockets."""
LOCAL_TESTING = "FAIRLEAD_FORCE_LOCAL_TESTING_MODE"
"""Whether ``serve.run`` runs everything in the program's own process: 1, or 0."""

_LONGEST_SOCKET_NAME = "/i-4194304-ffff/r-ffffffff.sock"
_UNIX_PATH_LIMIT = 107
_FOR_ALL = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - not to be used, and not to be closed to others


def address() -> str | None:
    """The address that ``FAIRLEAD_ADDRESS`` names; None if it is not set or empty.

    Raises FairleadError for a form that is none of those that there are.
    """
    value = os.environ.get(ADDRESS, "").strip().removesuffix("/")
    host_and_port = value.removeprefix(TLS_SCHEME)
    if value and not value.startswith("unix:") and ("/" in host_and_port or not host_and_port.rpartition(":")[0]):
        raise FairleadError(
            f"{ADDRESS}={value} is none of unix:/path of a controller, host:port of a gRPC port, https://host:port of "
            f"one with TLS"
        )
    return value or None


def local_testing_forced() -> bool:
    """Whether ``FAIRLEAD_FORCE_LOCAL_TESTING_MODE`` asks for local testing mode."""
    return os.environ.get(LOCAL_TESTING, "").strip() not in ("", "0")


def token() -> str | None:
    """The token in ``FAIRLEAD_TOKEN``; None if it is not set or empty.

    Raises FairleadError for one that no header can carry.
    """
    value = os.environ.get(TOKEN, "").strip()
    if not all("!" <= character <= "~" for character in value):
        raise FairleadError(f"{TOKEN} may have printable ASCII characters only, and no spaces")
    return value or None


def credentials() -> Credentials:
    """What this program proves to the instance at ``FAIRLEAD_ADDRESS``, and whom it believes there."""
    return Credentials(
        token=token(),
        ca_file=os.environ.get(TLS_CA) or None,
        certificate_file=os.environ.get(TLS_CERTIFICATE) or None,
        key_file=os.environ.get(TLS_KEY) or None,
    )


def state_directory() -> Path:
    """The directory of this user's instances: made if need be, owner-only.

    ``FAIRLEAD_STATE_DIR``, else ``$XDG_RUNTIME_DIR/fairlead``, else ``/tmp/fairlead-<uid>``. Whoever can write to it
    can run code as this user, so that a directory of somebody else's or of all users (/tmp), or a symbolic link in its
    place, is refused. Raises FairleadError for that, for a path that is too long for Unix sockets, and if it cannot be
    made.
    """
    path = _state_path()
    if len(os.fsencode(path)) + len(_LONGEST_SOCKET_NAME) > _UNIX_PATH_LIMIT:
        raise FairleadError(
            f"the state directory {path} has too long a path for Unix sockets (at most "
            f"{_UNIX_PATH_LIMIT - len(_LONGEST_SOCKET_NAME)} bytes); set {STATE_DIR} to a shorter one"
        )
    if str(path) in _FOR_ALL:
        raise FairleadError(f"the directory {path} is for all users; set {STATE_DIR} to one below it")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except FileExistsError:
        raise FairleadError(f"the state directory {path} is not a directory; remove it or set {STATE_DIR}") from None
    except OSError as error:
        raise FairleadError(
            f"the state directory {path} cannot be made: {error.strerror}; set {STATE_DIR} to a directory of your own"
        ) from error
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
