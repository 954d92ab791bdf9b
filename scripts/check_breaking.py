"""Checks that protos/ breaks no client generated from an earlier state of it: `buf breaking` against that state.

The earlier state is where this branch left main or, on main itself, the commit before the last one (on the first
commit: that commit, if something has changed since). A commit that breaks the contract on purpose says why in a line of
its message that begins with ``Breaks-Contract:``.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUF = Path(sys.executable).parent / "buf"
CONTRACT = {"buf.yaml", "protos", "third_party"}
MAIN = ("origin/main", "main")


def git(*arguments: str) -> str | None:
    """What git prints, or None if it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def earlier_commit() -> str | None:
    """The commit to compare with, or None if there is none: a first commit, a shallow clone."""
    head = git("rev-parse", "--verify", "--quiet", "HEAD")
    for branch in MAIN:
        if git("rev-parse", "--verify", "--quiet", branch) and (base := git("merge-base", branch, "HEAD")) != head:
            return base
    if before := git("rev-parse", "--verify", "--quiet", "HEAD~1"):
        return before
    return head if git("status", "--porcelain", "protos") else None


def main() -> None:
    base = earlier_commit()
    if base is None or not git("ls-tree", base, "protos", "buf.yaml"):
        print("nothing to compare with")
        return
    announced = git("log", "--format=%h %s", "--grep=^Breaks-Contract:", f"{base}..HEAD")
    if announced:
        print(f"skipped, broken on purpose by {announced}")
        return
    # A tree of its own rather than buf's git input, which knows neither linked worktrees nor shallow clones.
    archive = subprocess.run(["git", "archive", "--format=zip", base], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as earlier:
        with zipfile.ZipFile(io.BytesIO(archive)) as tree:
            tree.extractall(earlier, [name for name in tree.namelist() if name.partition("/")[0] in CONTRACT])
        done = subprocess.run([BUF, "breaking", "--against", earlier], cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(f"protos/ breaks clients of {base[:10]}; if it must, say so: `Breaks-Contract: why` in the message")
    print(f"compared with {base[:10]}")


if __name__ == "__main__":
    main()
