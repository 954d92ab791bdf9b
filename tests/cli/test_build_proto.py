"""``fairlead build --proto`` as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.typist import PROGRAM, ROOT, Typist

SHOP = """\
import numpy as np
from fairlead import serve

@serve.deployment
class Shop:
    def find(self, {parameters}) -> np.ndarray: ...

app = Shop.bind()
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shop(tmp_path: Path) -> Callable[[str], None]:
    def write(parameters: str) -> None:
        (tmp_path / "shop_app.py").write_text(SHOP.format(parameters=parameters))

    write("a: int")
    return write


@pytest.fixture
def build(tmp_path: Path, typist: Typist) -> Run:
    def run(*arguments: str, application: str = "shop_app:app") -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
        return typist("build", "--proto", application, *arguments, env=environment, cwd=tmp_path)

    return run


def test_it_prints_the_service_and_writes_the_lock_file(
    shop: Callable[[str], None], build: Run, tmp_path: Path
) -> None:
    done = build()
    assert done.returncode == 0, done.stderr
    assert "package shop.v1;" in done.stdout
    assert "int64 a = 1;" in done.stdout
    assert done.stderr == f"wrote {tmp_path / 'fairlead.lock.json'}\n"
    fields = json.loads((tmp_path / "fairlead.lock.json").read_text())["services"]["shop.v1.ShopService"]["messages"]
    assert fields["FindRequest"]["fields"]["a"] == {"number": 1, "type": "int64", "label": "singular"}
    again = build("--check")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    shop("b: str, a: int")
    stale = build("--check")
    assert stale.returncode == 1
    assert stale.stderr.startswith(f"fairlead: {tmp_path / 'fairlead.lock.json'}: not what the code says")
    assert "int64 a = 1;" in build().stdout


def test_a_breaking_edit_is_refused(shop: Callable[[str], None], build: Run, tmp_path: Path) -> None:
    build()
    before = (tmp_path / "fairlead.lock.json").read_text()
    shop("a: float")
    for arguments in ([], ["--check"]):
        done = build(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert "field 'a' of FindRequest: its type was int64 and is double. Keep it as it was" in done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "fairlead.lock.json").read_text() == before
    allowed = build("--allow-breaking")
    assert allowed.returncode == 0
    assert "  reserved 1;\n  // The parameter a.\n  double a = 2;" in allowed.stdout


def test_files_and_what_they_import(shop: Callable[[str], None], build: Run, tmp_path: Path) -> None:
    done = build("--output", "out", "--imports", "google", "--lock", "locks/here.json")
    assert (done.returncode, done.stdout) == (0, "")
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        "shop_app.py",
        "locks/here.json",
        "out/shop/v1/shop.proto",
        "out/fairlead/v1/tensor.proto",
        "google/google/api/annotations.proto",
        "google/google/api/http.proto",
    }
    assert (tmp_path / "out/fairlead/v1/tensor.proto").read_text() == (
        ROOT / "protos/fairlead/v1/tensor.proto"
    ).read_text()
    (tmp_path / "out/shop/v1/shop.proto").write_text("edited")
    assert "shop.proto: not what the code says" in build("-o", "out", "--lock", "locks/here.json", "--check").stderr


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("a", "fairlead: Shop.find: parameter 'a': it has no type hint. Write one"),
        (
            "a: dict",
            "fairlead: Shop.find: parameter 'a': a bare dict does not say what it holds. Write dict[str, float]",
        ),
    ],
)
def test_a_hint_that_cannot_be_mapped_is_one_line(
    shop: Callable[[str], None], build: Run, parameters: str, message: str
) -> None:
    shop(parameters)
    done = build()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_an_application_without_a_service_says_why(build: Run, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(
        "from fairlead import serve\nfrom starlette.requests import Request\n@serve.deployment\nclass Web:\n"
        "    def __call__(self, request: Request) -> str: ...\napp = Web.bind()\n"
    )
    done = build(application="web:app")
    assert done.returncode == 1
    assert "there is no service to derive from 'Web'" in done.stderr


def test_the_lock_file_of_the_example_is_up_to_date() -> None:
    done = subprocess.run(
        [PROGRAM, "build", "--proto", "--check", "examples.digits.app:app"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
