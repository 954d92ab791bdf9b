"""Builds the Go, Java and Node.js clients, from nothing but .proto files and what their lock files pin.

``python -m tests.clients.build`` builds those whose toolchain is installed. Building what is built costs little.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GO = HERE / "go"
NODE = HERE / "node"
JAVA = HERE / "java"
DERIVED = HERE / "derived"
CONNECT = HERE / "connect"
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/go/bin"])  # where Go's own installer puts it
TIMEOUT_S = 600


class ToolchainMissingError(Exception):
    """There is no toolchain for a client here, or one that is too old; the message says which."""


class BuildError(Exception):
    """A client could not be built; the message is what the tool printed."""


def go_client() -> list[str]:
    """The command that runs the Go client, built. Raises ToolchainMissingError, or BuildError."""
    go = tool("go")
    wanted = re.search(r"^go (\S+)$", (GO / "go.mod").read_text(), re.MULTILINE)
    found = re.search(r"go(\d+\.\d+)", run([go, "version"], HERE))
    if not wanted or not found or _version(found[1]) < _version(wanted[1])[:2]:
        raise ToolchainMissingError(f"Go is {found[1] if found else 'unknown'}; tests/clients/go/go.mod asks for more")
    # A checkout's owner and revision do not matter here, and asking git for them fails in some containers.
    environment = {"GOFLAGS": "-buildvcs=false"}
    with _exclusive(GO):
        if _older(GO / "stubs" / "fairlead", [ROOT / "protos", GO / "buf.gen.yaml", GO / "go.mod"]):
            buf = [str(Path(sys.executable).parent / "buf"), "generate", str(ROOT), "--template", "buf.gen.yaml"]
            run([*buf, "--path", str(ROOT / "protos" / "fairlead")], GO, environment)
            (GO / "stubs" / "fairlead").touch()
        run([go, "build", "-o", "bin/client", "."], GO, environment)
    return [str(GO / "bin" / "client")]


def go_digits_client() -> list[str]:
    """The command that runs the Go client of the digits example, built. Raises ToolchainMissingError, or BuildError."""
    go_client()
    protos = derived_protos()
    go = tool("go")
    environment = {"GOFLAGS": "-buildvcs=false"}
    with _exclusive(GO):
        if _older(GO / "stubs" / "digits", [protos, GO / "buf.gen.yaml", GO / "go.mod"]):
            buf = [str(Path(sys.executable).parent / "buf"), "generate", str(DERIVED), "--template", "buf.gen.yaml"]
            run([*buf, "--path", str(protos / "digits")], GO, environment)
            (GO / "stubs" / "digits").touch()
        run([go, "build", "-o", "bin/digits", "./digits"], GO, environment)
    return [str(GO / "bin" / "digits")]


def java_digits_client() -> list[str]:
    """The command that runs the Java client of the digits example, built. Raises as the others."""
    java, javac, mvn = tool("java"), tool("javac"), tool("mvn")
    found = _version(run([javac, "-version"], HERE))
    if found < (17,):
        raise ToolchainMissingError(f"javac is {'.'.join(map(str, found)) or 'too old to say'}; the client needs 17")
    protos = derived_protos()
    target = JAVA / "target"
    with _exclusive(JAVA):
        if _older(target / "built", [protos, JAVA / "pom.xml", JAVA / "src"]):
            run([mvn, "--batch-mode", "--quiet", "--strict-checksums", "compile"], JAVA)
            (target / "built").touch()
    return [java, "-cp", f"{target / 'classes'}{os.pathsep}{target / 'lib'}/*", "fairlead.test.DigitsClient"]


def derived_protos() -> Path:
    """The folder with the .proto files that `fairlead build` derives from the digits example. Raises BuildError."""
    protos, imports = DERIVED / "protos", DERIVED / "imports"
    DERIVED.mkdir(exist_ok=True)
    with _exclusive(DERIVED):
        (DERIVED / "buf.yaml").write_text("version: v2\nmodules:\n  - path: protos\n  - path: imports\n")
        fairlead = [str(Path(sys.executable).parent / "fairlead"), "build", "--proto", "examples.digits.app:app"]
        run([*fairlead, "--output", str(protos), "--imports", str(imports)], ROOT)
    return protos


def node_client() -> list[str]:
    """The command that runs the Node.js client, installed. Raises ToolchainMissingError, or BuildError."""
    node = _installed(NODE, 18)
    return [node, str(NODE / "client.js"), str(ROOT / "protos"), str(ROOT / "third_party" / "googleapis")]


def connect_client() -> list[str]:
    """The command that runs the client with Connect's transports. Raises ToolchainMissingError, or BuildError."""
    return [_installed(CONNECT, 20), str(CONNECT / "client.js")]


def _installed(folder: Path, oldest: int) -> str:
    """Installs what a folder's lock file pins; Node.js itself, of at least so recent a major version."""
    node, npm = tool("node"), tool("npm")
    found = run([node, "--version"], HERE).strip()
    if _version(found.removeprefix("v")) < (oldest,):
        raise ToolchainMissingError(f"Node.js is {found}; the client needs v{oldest}")
    with _exclusive(folder):
        if _older(folder / "node_modules" / ".package-lock.json", [folder / "package-lock.json"]):
            run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder)
            (folder / "node_modules" / ".package-lock.json").touch()
    return node


def tool(name: str) -> str:
    """The path of a program. Raises ToolchainMissingError."""
    path = shutil.which(name, path=PATH)
    if path is None:
        raise ToolchainMissingError(f"{name} is not installed")
    return path


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _older(made: Path, sources: list[Path]) -> bool:
    """Whether something was made before a file of its sources was last changed, or not at all."""
    if not made.exists():
        return True
    files = [file for source in sources for file in [source, *source.rglob("*")]]
    return made.stat().st_mtime < max(file.stat().st_mtime for file in files)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Lets one process at a time build in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def run(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a program prints. Raises BuildError if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {}), "PATH": PATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Builds all, side by side; a missing toolchain is said and is no error: the tests decide what it means."""
    clients = (go_client, go_digits_client, java_digits_client, node_client, connect_client)
    with ThreadPoolExecutor() as pool:
        for client, built in [(client, pool.submit(client)) for client in clients]:
            try:
                built.result()
            except ToolchainMissingError as error:
                print(f"{client.__name__.replace('_', ' ')}: {error}; its tests will be skipped")


if __name__ == "__main__":
    main()
