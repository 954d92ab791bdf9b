"""The load generators written in C: h2load for gRPC, wrk for HTTP."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from bench.side import SideError
from bench.unavailable import UnavailableError

SLACK_S = 30
PACKAGES = {"h2load": "nghttp2-client", "wrk": "wrk"}
UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def h2load(url: str, body: Path, *, least_answer: int, seconds: float) -> float:
    """Requests per second of 4 connections with 8 streams each that post a body.

    ``least_answer``: h2load does not read gRPC's status, so that an answer counts as good if it has at least so many
    bytes of data.
    """
    headers = [part for header in ("content-type: application/grpc", "te: trailers") for part in ("-H", header)]
    flags = ["-c4", "-m8", "-t1", f"-D{max(1, round(seconds))}", "--warm-up-time=1"]
    printed = _run(["h2load", *flags, *headers, "-d", str(body), url], seconds)
    rate = _find(r"finished in [\d.]+\w+, ([\d.]+) req/s", printed)
    done = _find(r"requests: .* (\d+) succeeded", printed)
    failed = _find(r"requests: .* (\d+) failed", printed)
    traffic = re.search(r"\((\d+)\) data", printed)
    if traffic is None or done == 0 or failed > 0 or int(traffic[1]) / done < least_answer:
        raise SideError(f"the server did not answer well:\n{printed}")
    return rate


class HttpLoad(NamedTuple):
    """What wrk did."""

    per_second: float
    requests: float


def wrk_script(path: Path, body: str) -> Path:
    """Writes a script that posts JSON."""
    path.write_text(f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = \'{body}\'\n')
    return path


def wrk(url: str, script: Path, *, seconds: float) -> HttpLoad:
    """The load of 32 connections that run a script."""
    printed = _run(["wrk", "-t1", "-c32", f"-d{max(1, round(seconds))}s", "-s", str(script), url], seconds)
    if "Non-2xx" in printed or "Socket errors" in printed:
        raise SideError(f"the server did not answer well:\n{printed}")
    return HttpLoad(_find(r"Requests/sec:\s+([\d.]+)", printed), _find(r"(\d+) requests in", printed))


def _run(command: list[str], seconds: float) -> str:
    if shutil.which(command[0]) is None:
        raise UnavailableError(f"needs {command[0]}; on Debian and Ubuntu: apt install {PACKAGES[command[0]]}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + SLACK_S)
    except subprocess.TimeoutExpired as error:
        raise SideError(f"{command[0]} did not end") from error
    if done.returncode != 0:
        raise SideError(f"{command[0]} failed: {done.stdout}{done.stderr}")
    return done.stdout


def _find(pattern: str, printed: str) -> float:
    found = re.search(pattern, printed)
    if found is None:
        raise SideError(f"unexpected output:\n{printed}")
    return float(found[1])
