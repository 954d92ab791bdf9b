"""The checks that guard the contract, run on small repositories and trees of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROTO = """\
syntax = "proto3";

package shop.v1;

// A thing.
message Thing {
  // Its name.
  string name = 1;
}
"""
IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


class Repository:
    """A repository with a contract of one message, and the script that checks it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proto = root / "protos" / "shop" / "v1" / "shop.proto"
        self.proto.parent.mkdir(parents=True)
        (root / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "check_breaking.py", root / "scripts")
        (root / "buf.yaml").write_text("version: v2\nmodules:\n  - path: protos\nbreaking:\n  use: [FILE]\n")
        self.proto.write_text(PROTO)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, check=True, env=os.environ | IDENTITY)

    def commit(self, message: str) -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def check(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, self.root / "scripts" / "check_breaking.py"], capture_output=True, text=True, check=False
        )

    def break_contract(self) -> None:
        self.proto.write_text(PROTO.replace("string name", "int32 name"))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_no_commit_at_all(repository: Repository) -> None:
    done = repository.check()
    assert (done.returncode, done.stdout) == (0, "nothing to compare with\n")


def test_first_commit(repository: Repository) -> None:
    repository.commit("first")
    done = repository.check()
    assert (done.returncode, done.stdout) == (0, "nothing to compare with\n")


def test_first_commit_with_a_contract(repository: Repository) -> None:
    repository.git("commit", "--quiet", "--allow-empty", "--message", "empty")
    repository.commit("contract")
    done = repository.check()
    assert (done.returncode, done.stdout) == (0, "nothing to compare with\n")


def test_on_main_the_last_commit_is_compared_with_the_one_before(repository: Repository) -> None:
    repository.commit("first")
    repository.commit("second")
    assert "compared with" in repository.check().stdout
    repository.break_contract()
    repository.commit("third")
    done = repository.check()
    assert done.returncode != 0
    assert "name" in done.stdout
    assert "Breaks-Contract" in done.stderr


def test_on_a_branch_all_of_its_commits_are_compared(repository: Repository) -> None:
    repository.commit("first")
    repository.git("switch", "--quiet", "--create", "feature")
    repository.break_contract()
    repository.commit("break")
    repository.commit("another")
    assert repository.check().returncode != 0


def test_uncommitted_changes_count(repository: Repository) -> None:
    repository.commit("first")
    repository.commit("second")
    repository.break_contract()
    assert repository.check().returncode != 0


def test_a_break_can_be_announced(repository: Repository) -> None:
    repository.commit("first")
    repository.break_contract()
    repository.commit("second\n\nBreaks-Contract: names are numbers now")
    done = repository.check()
    assert (done.returncode, "on purpose" in done.stdout) == (0, True)


def test_a_linked_worktree(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> None:
    repository.commit("first")
    linked = tmp_path_factory.mktemp("linked") / "tree"
    repository.git("worktree", "add", "--quiet", "-b", "feature", str(linked))
    (linked / "protos" / "shop" / "v1" / "shop.proto").write_text(PROTO.replace("string name", "int32 name"))
    done = subprocess.run([sys.executable, linked / "scripts" / "check_breaking.py"], capture_output=True, check=False)
    assert done.returncode != 0


def test_a_tree_that_git_does_not_know(repository: Repository) -> None:
    shutil.rmtree(repository.root / ".git")
    done = repository.check()
    assert (done.returncode, done.stdout) == (0, "nothing to compare with\n")


@pytest.mark.parametrize("python", ["/bin/false", "/nowhere/python"])
def test_install_says_which_python_it_needs(tmp_path: Path, python: str) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "create_venv", tmp_path / "venv"],
        env=os.environ | {"PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"error: PYTHON={python} is not a Python of at least 3.11\n"


def test_install_without_any_python(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", ROOT / "scripts" / "create_venv", tmp_path / "venv"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Fairlead needs Python 3.11 or later" in done.stderr


def test_a_step_is_quiet_unless_it_fails() -> None:
    step = ROOT / "scripts" / "step"
    good = subprocess.run([step, "a check", "echo", "noise"], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout) == (0, "ok      a check\n")
    shown = subprocess.run([step, "--show", "a check", "echo", "said"], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stdout) == (0, "ok      a check: said\n")
    bad = subprocess.run([step, "a check", "ls", "/nowhere"], capture_output=True, text=True, check=False)
    assert bad.returncode != 0
    assert "/nowhere" in bad.stdout
    assert bad.stdout.endswith("FAILED  a check\n")


def test_generated_stubs_that_are_out_of_date_are_named(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "generate_protos.py", tmp_path / "scripts")
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copytree(ROOT / "third_party", tmp_path / "third_party")
    shutil.copytree(ROOT / "client" / "fairlead" / "v1", tmp_path / "client" / "fairlead" / "v1")
    command = [sys.executable, tmp_path / "scripts" / "generate_protos.py", "--check"]
    assert subprocess.run(command, check=False).returncode == 0
    with (tmp_path / "protos" / "fairlead" / "v1" / "error.proto").open("a") as proto:
        proto.write("// Another one.\nmessage Another {}\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "error_pb2.py" in done.stderr
    assert "make protos" in done.stderr
