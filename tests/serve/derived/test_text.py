"""Derived .proto files, as buf, protoc and other tools see them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from fairlead.serve.derived.descriptor import file_of
from fairlead.serve.derived.lock import advance
from fairlead.serve.derived.shapes import Service
from fairlead.serve.derived.text import text_of
from tests.serve.derived.deriving import class_of, derived
from tests.serve.derived.shop import Shop

ROOT = Path(__file__).resolve().parents[3]
BUF = str(Path(sys.executable).parent / "buf")


class Workspace:
    """A folder of derived .proto files, with what they import beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT / "third_party", root / "third_party")
        (root / "own").mkdir()
        (root / "protos" / "fairlead" / "v1").mkdir(parents=True)
        shutil.copy(ROOT / "protos" / "fairlead" / "v1" / "tensor.proto", root / "protos" / "fairlead" / "v1")
        (root / "buf.yaml").write_text(
            "version: v2\nmodules:\n  - path: own\n  - path: protos\n  - path: third_party/googleapis\n"
            "    lint:\n      ignore: [third_party/googleapis]\n"
            "lint:\n  use: [STANDARD, COMMENTS]\nbreaking:\n  use: [WIRE]\n"
        )

    def add(self, service: Service, text: str) -> None:
        path = self.root / "own" / service.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def buf(self, *arguments: str) -> str:
        """What buf has to say."""
        done = subprocess.run([BUF, *arguments], cwd=self.root, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def compiled(self, service: Service) -> descriptor_pb2.FileDescriptorProto:
        """The file as protoc reads it."""
        folders = ["own", "protos", "third_party/googleapis"]
        includes = [f"-I{self.root / folder}" for folder in folders] + [f"-I{files('grpc_tools') / '_proto'}"]
        target = self.root / "set"
        path = str(self.root / "own" / service.file)
        assert protoc.main(["protoc", *includes, f"--descriptor_set_out={target}", path]) == 0
        return descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file[0]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


def test_text_and_descriptor_are_the_same_contract(workspace: Workspace) -> None:
    service = derived(Shop)
    lock, _ = advance(None, service)
    workspace.add(service, text_of(service, lock))
    assert workspace.compiled(service) == file_of(service, lock)
    # With numbers and names that are reserved, too.
    locked = lock.messages["Part"]
    locked.removed = {
        "old": locked.fields["name"]._replace(number=90),
        "older": locked.fields["name"]._replace(number=6),
    }
    locked.reserved = [95, 91]
    lock.enums["HTTPColour"].removed = {"HTTP_COLOUR_GREEN": 7}
    lock, _ = advance(lock, service)
    workspace.add(service, text_of(service, lock))
    assert workspace.compiled(service) == file_of(service, lock)
    assert 'reserved "old", "older";' in text_of(service, lock)


def test_what_is_derived_is_clean_under_buf_lint_and_buf_format(workspace: Workspace) -> None:
    services = [derived(Shop), *(derived(class_of(find, name)) for name in ("HTTPServer2", "_my_class", "Conv2D", "A"))]
    for service in services:
        lock, _ = advance(None, service)
        workspace.add(service, text_of(service, lock))
    assert workspace.buf("lint") == ""
    assert workspace.buf("format", "--diff", "own") == ""


def find(self: object, imageURL: int, x1: int, _y: int, list_of_2d: int, HTTPPort: int, a__b: int) -> int:
    raise NotImplementedError


def test_callers_of_the_old_contract_survive_what_is_accepted(workspace: Workspace) -> None:
    def first(self: object, a: int, b: str, c: float = 1.0) -> list[int]: ...  # type: ignore[empty-body]

    def then(self: object, d: str, c: float, a: int = 3, e: list[str] = []) -> list[int]: ...  # type: ignore[empty-body]  # noqa: B006

    first.__name__ = then.__name__ = "find"
    then.__annotations__["c"] = float | None
    service = derived(class_of(first))
    lock, _ = advance(None, service)
    workspace.add(service, text_of(service, lock))
    shutil.copytree(workspace.root, workspace.root.parent / "before")
    service = derived(class_of(then))
    lock, breaking = advance(lock, service)
    assert breaking == []
    workspace.add(service, text_of(service, lock))
    assert workspace.buf("breaking", "--against", str(workspace.root.parent / "before")) == ""


def test_moving_code_about_changes_nothing() -> None:
    def one(self: object, a: int, b: str) -> None: ...

    def two(self: object) -> None: ...

    def moved(self: object, b: str, a: int) -> None: ...

    moved.__name__ = "one"
    service = derived(type("Shop", (), {"one": one, "two": two}))
    lock, _ = advance(None, service)
    again = derived(type("Shop", (), {"two": two, "one": moved}))
    after, _ = advance(lock, again)
    assert text_of(again, after) == text_of(service, lock)


def test_comments_come_from_docstrings() -> None:
    service = derived(Shop)
    text = text_of(service, advance(None, service)[0])
    assert "// Sells things.\n//\n// All day   long.\nservice ShopService {" in text
    assert "  // Prices, many at once.\n  rpc Price(PriceRequest) returns (PriceResponse) {" in text
    assert "// A part of an item.\n//\n// Parts have parts.\nmessage Part {\n  // What it is called.\n  //\n" in text
    assert "  // The colour of fire.\n  HTTP_COLOUR_RED = 1;" in text
    assert "  // In euros.\n  string amount = 1;" in text
    assert "  // Absent: 10.\n  optional int64 limit = 2;" in text
    assert "  // The parameter pixels. Elements are float32.\n  fairlead.v1.Tensor pixels = 1;" in text


def test_which_methods_callers_see() -> None:
    methods = {each.name: each for each in derived(Shop).methods}
    assert list(methods) == ["Inherited", "Find", "Order", "Measure", "Total", "Sort", "Price", "Version"]
    streams = {name: (each.client_streaming, each.server_streaming) for name, each in methods.items()}
    assert {name for name, (asked, _) in streams.items() if asked} == {"Total", "Sort"}
    assert {name for name, (_, answered) in streams.items() if answered} == {"Order", "Sort"}
    assert [each.type for each in methods["Price"].request.fields] == ["string", "string"], (
        "one caller's part of a batch"
    )
