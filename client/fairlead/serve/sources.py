"""Which source files a user's code is made of, so that a deployment restarts when one of them has changed.

Import statements are read, nothing is imported: what a module imports, in its functions too, and what that imports, as
far as it is the user's own. Libraries that are installed are not: they change with the environment. A module from which
only deployments are imported, to be bound, is made for these: their code runs in replicas of their own.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairlead.serve.deployment import Application, Deployment

_FAIRLEAD = Path(__file__).resolve().parents[1]


def source_files(func_or_class: Any) -> list[Path]:
    """The files that a class or function comes from, or what is at an import path, sorted; none for what has no file.

    The script that is run as ``__main__`` is not among them: what is deployed from it goes by value.
    """
    roots = _roots()
    found: set[Path] = set()
    modules = {getattr(each, "__module__", None) or "" for each in getattr(func_or_class, "__mro__", (func_or_class,))}
    waiting = [file for name in modules for file in _file_of(name)]
    if isinstance(func_or_class, str):
        waiting = list(_locate(tuple(func_or_class.partition(":")[0].split(".")), roots))
    while waiting:
        path = waiting.pop()
        if path in found or not _is_users(path):
            continue
        found.add(path)
        for name in _imports(path, _package_of(path, roots)):
            if not _is_deployment(name):
                waiting.extend(_locate(name, roots))
    if "__main__" in modules:
        found.difference_update(_file_of("__main__"))
    return sorted(found)


def source_digest(func_or_class: Any) -> str:
    """A digest of the contents of :func:`source_files`; empty where there are none."""
    files = source_files(func_or_class)
    if not files:
        return ""
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path).encode("utf-8", "surrogateescape") + b"\0")
        digest.update(hashlib.sha256(_content(path)).digest())
    return digest.hexdigest()[:16]


def _file_of(module: str) -> list[Path]:
    """The file of a module that is loaded; none for what has none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return [] if file is None else [Path(file).resolve()]


@functools.cache
def _libraries() -> tuple[Path, ...]:
    paths = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(path).resolve() for path in paths if Path(path) != Path(sysconfig.get_paths()["data"]))


def _is_users(path: Path) -> bool:
    return path.suffix == ".py" and not any(path.is_relative_to(each) for each in (_FAIRLEAD, *_libraries()))


def _roots() -> list[Path]:
    roots = (Path(entry or ".").resolve() for entry in sys.path)
    return [root for root in dict.fromkeys(roots) if root.is_dir() and root not in _libraries()]


def _package_of(path: Path, roots: list[Path]) -> tuple[str, ...]:
    """The package that relative imports in a file start from."""
    for root in roots:
        if path.is_relative_to(root):
            return path.relative_to(root).parent.parts
    return ()


def _locate(name: tuple[str, ...], roots: list[Path]) -> Iterator[Path]:
    """The files of a module and of the packages around it, in the first root that has it."""
    for root in roots:
        files: list[Path] = []
        place = root
        for part in name:
            place = place / part
            if (initial := place / "__init__.py").is_file():
                files.append(initial)
            elif (module := place.with_name(f"{part}.py")).is_file():
                files.append(module)
                break
            elif not place.is_dir():
                break
        if files:
            yield from (file.resolve() for file in files)
            return


def _is_deployment(name: tuple[str, ...]) -> bool:
    """Whether an import gives a deployment, bound or not, rather than code."""
    module = sys.modules.get(".".join(name[:-1]))
    return module is not None and isinstance(vars(module).get(name[-1]), Deployment | Application)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _imports(path: Path, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The names that a file imports, as parts; ``from a import b`` may mean a module ``a.b`` or a name in ``a``."""
    for level, name in _statements(_content(path)):
        yield (*package[: len(package) - level + 1], *name) if level else name


@functools.lru_cache(maxsize=1024)
def _statements(source: bytes) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """The import statements of a module: how many levels up a name is, 0 for an absolute one, and its parts."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    found: list[tuple[int, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.extend((0, tuple(alias.name.split("."))) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split(".")) if node.module else ()
            found.extend((node.level, (*base, alias.name)) for alias in node.names)
    return tuple(found)
