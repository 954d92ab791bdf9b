"""``python -m fairlead.cli.redeploy``: deploys an application as its files are now, to an instance that runs.

In a process of its own, which imports everything anew: ``fairlead run --reload`` starts it after each change.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field

import orjson

from fairlead.cli.errors import ImportPathError
from fairlead.cli.imports import load_application
from fairlead.serve import api
from fairlead.wire.errors import FairleadError


@dataclass(frozen=True, kw_only=True, slots=True)
class Redeployment:
    """What is to be deployed."""

    import_path: str
    """The application: "package.module:name"."""
    app_dir: str
    """Where to look for the module first."""
    arguments: dict[str, str] = field(default_factory=dict)
    """For an application builder."""
    name: str = "default"
    """The application's name."""
    route_prefix: str = "/"
    """Where it is mounted over HTTP."""
    sys_path: list[str] = field(default_factory=lambda: list(sys.path))
    """Where modules are looked for: as here. A deployment restarts when its environment is another one."""

    def command(self) -> list[str]:
        """The command line of the process that does it."""
        return [sys.executable, "-m", "fairlead.cli.redeploy", orjson.dumps(asdict(self)).decode()]

    def deploy(self) -> None:
        """Imports and deploys. Raises what either raises."""
        sys.path[:] = self.sys_path
        target = load_application(self.import_path, self.app_dir, self.arguments)
        api.run(target, name=self.name, route_prefix=self.route_prefix)


def main() -> None:
    """Runs the process. What a user can mend in a line is one line."""
    try:
        Redeployment(**orjson.loads(sys.argv[1])).deploy()
    except (ImportPathError, FairleadError, RuntimeError, TypeError, ValueError) as error:
        sys.exit(f"fairlead: {error}")


if __name__ == "__main__":
    main()
