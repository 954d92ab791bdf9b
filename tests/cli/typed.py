"""Commands typed for instances in state directories of their own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.typist import PATIENCE_S, PROGRAM, ROOT, Typist

COUNTER = {"name": "counter", "route_prefix": "/counter", "import_path": "tests.cli.standing_app:app"}
OTHER = {"name": "other", "route_prefix": None, "import_path": "tests.cli.standing_app:app"}


class Typed:
    """Types commands, for instances in a state directory of their own."""

    def __init__(self, typist: Typist, state: Path) -> None:
        self.typist = typist
        self.state = state
        given = {key: value for key, value in os.environ.items() if not key.startswith("FAIRLEAD_")}
        self.environment = {
            **given,
            "FAIRLEAD_STATE_DIR": str(state),
            "COLUMNS": "200",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }
        self.files = state.parent

    def __call__(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return self.typist(*arguments, env=self.environment | changes)

    def really(self, *arguments: str) -> str:
        """What a command prints that succeeds, typed to the program itself."""
        return subprocess.run(
            [PROGRAM, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        ).stdout

    def well(self, *arguments: str, **changes: str) -> str:
        """What a command prints that succeeds."""
        done = self(*arguments, **changes)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, *arguments: str, status: int = 1, **changes: str) -> str:
        """The one line that a command says that fails."""
        done = self(*arguments, **changes)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        (line,) = done.stderr.splitlines()
        return line

    def value(self, *arguments: str, **changes: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.well(*arguments, **changes))

    def file(self, *applications: dict[str, Any], **options: Any) -> str:
        """A configuration file."""
        path = self.files / "config.yaml"
        path.write_text(yaml.safe_dump({**options, "applications": list(applications)}))
        return str(path)

    def processes(self) -> list[psutil.Process]:
        """Those that work in the state directory."""
        return [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and str(self.state) in " ".join(process.info["cmdline"] or ())
        ]

    def end(self) -> None:
        """Ends all, however it is."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@contextlib.contextmanager
def typing_in_a_directory(typist: Typist) -> Iterator[Typed]:
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as name:
        (Path(name) / "s").mkdir(mode=0o700)
        typed = Typed(typist, Path(name) / "s")
        try:
            yield typed
        finally:
            typed.end()


def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
