"""Generates the stubs in client/fairlead/v1 from protos/, or with --check compares them with what is committed."""

from __future__ import annotations

import filecmp
import os
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "client" / "fairlead" / "v1"
PACKAGED = ["fairlead/v1/tensor.proto"]
"""What protos derived from users' classes import: `fairlead build --proto --output` puts them beside those."""


def generate(into: Path) -> None:
    bin_dir = str(Path(sys.executable).parent)
    os.environ["PATH"] = bin_dir + os.pathsep + os.environ["PATH"]
    sources = sorted(str(p.relative_to(ROOT / "protos")) for p in (ROOT / "protos").rglob("*.proto"))
    arguments = [
        "protoc",
        f"-I{ROOT / 'protos'}",
        f"-I{ROOT / 'third_party' / 'googleapis'}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"--python_out={into}",
        f"--grpc_python_out={into}",
        f"--mypy_out=quiet:{into}",
        f"--mypy_grpc_out=quiet:{into}",
        *sources,
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed: see above")
    for name in PACKAGED:
        shutil.copy(ROOT / "protos" / name, into / name)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = Path(scratch) / "fairlead" / "v1"
        if "--check" in sys.argv:
            names = sorted({p.name for p in fresh.iterdir()} | {p.name for p in TARGET.glob("*_pb2*")})
            _, different, missing = filecmp.cmpfiles(fresh, TARGET, names, shallow=False)
            if different or missing:
                sys.exit(f"client/fairlead/v1 is out of date ({', '.join(different + missing)}); run `make protos`")
            return
        for old in TARGET.glob("*_pb2*"):
            old.unlink()
        for new in fresh.iterdir():
            shutil.copy(new, TARGET / new.name)


if __name__ == "__main__":
    main()
