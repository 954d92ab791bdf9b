"""Virtual environments for the servers of others, made on demand, so that nothing of theirs mixes with what is here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.unavailable import UnavailableError

CACHE = Path(__file__).resolve().parent.parent / ".environments"
"""Kept from run to run; ``make clean`` removes it."""
INSTALL_S = 900


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """One environment, by what it holds."""

    name: str
    """The folder's name, and how messages call it."""
    requirements: tuple[str, ...]
    """What pip installs. The newest versions that there are when the environment is made: then they stay."""

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        return CACHE / self.name

    def program(self, name: str) -> str:
        """The path of one of its programs. Raises UnavailableError, saying why, if the environment cannot be made."""
        made = self.folder / "installed"
        if not made.exists() or made.read_text().splitlines() != list(self.requirements):
            self._make()
            made.write_text("".join(f"{line}\n" for line in self.requirements))
        program = self.folder / "bin" / name
        if not program.exists():
            raise UnavailableError(f"the environment of {self.name} has no program {name!r}")
        return str(program)

    def version(self, package: str) -> str:
        """The version of a package that is installed in it."""
        code = f"from importlib.metadata import version; print(version({package!r}))"
        return self._run([self.program("python"), "-c", code]).strip()

    def _make(self) -> None:
        print(f"  installing {' '.join(self.requirements)} into {self.folder}", flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._run([sys.executable, "-m", "venv", "--without-pip", str(self.folder)])
        pip = [sys.executable, "-m", "pip", "--python", str(self.folder / "bin" / "python")]
        self._run([*pip, "install", "--disable-pip-version-check", "--quiet", *self.requirements])

    def _run(self, command: list[str]) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"{self.name} cannot be installed: pip did not end in {INSTALL_S} s") from error
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise UnavailableError(f"{self.name} cannot be installed: {last[0]}")
        return done.stdout
