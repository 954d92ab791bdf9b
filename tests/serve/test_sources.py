"""Which files make up a user's code."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fairlead.serve.sources import source_digest, source_files

FILES = {
    "shop/__init__.py": "from shop.version import NUMBER\n",
    "shop/version.py": "NUMBER = 1\n",
    "shop/app.py": (
        "import json\nfrom . import pricing\nfrom .deep.tax import rate\n"
        "class App:\n    def run(self):\n        import lazy_part\n        return lazy_part\n"
    ),
    "shop/pricing.py": "from shop import names\n",
    "shop/names.py": "",
    "shop/deep/tax.py": "from ..version import NUMBER\nrate = 1\n",
    "shop/other.py": "class Other: pass\n",
    "lazy_part.py": "import shop.app\n",
    "composed.py": (
        "from parts.left import Left, bound\nfrom parts.right import Right, rate\nimport parts.whole\n"
        "from parts.given import Absent\n"
        "class Front: pass\n"
        "class More(Left.func_or_class): pass\n"
    ),
    "parts/left.py": (
        "from fairlead import serve\nimport unused\n@serve.deployment\nclass Left: pass\nbound = Left.bind()\n"
    ),
    "parts/right.py": "from fairlead import serve\n@serve.deployment\nclass Right: pass\nrate = 1\n",
    "parts/whole.py": "from fairlead import serve\n@serve.deployment\nclass Whole: pass\n",
    "parts/given.py": "def __getattr__(name):\n    return None\n",
    "unused.py": "",
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def names(found: list[Path], tree: Path) -> list[str]:
    return [str(path.relative_to(tree)) for path in found]


def test_what_a_module_imports_counts_also_within_functions(tree: Path):
    found = source_files(module("shop.app").App)
    assert names(found, tree) == [
        "lazy_part.py",
        "shop/__init__.py",
        "shop/app.py",
        "shop/deep/tax.py",
        "shop/names.py",
        "shop/pricing.py",
        "shop/version.py",
    ]


def test_nothing_is_imported_for_it(tree: Path):
    source_files(module("shop.app").App)
    assert "lazy_part" not in sys.modules


@pytest.mark.parametrize("changed", ["shop/app.py", "shop/version.py", "lazy_part.py", "shop/deep/tax.py"])
def test_a_change_of_any_of_them_changes_the_digest(tree: Path, changed: str):
    app = module("shop.app").App
    before = source_digest(app)
    assert before == source_digest(app)
    (tree / changed).write_text(FILES[changed] + "# changed\n")
    assert source_digest(app) != before


@pytest.mark.parametrize("changed", ["unused.py", "shop/other.py"])
def test_a_change_elsewhere_does_not(tree: Path, changed: str):
    app = module("shop.app").App
    before = source_digest(app)
    (tree / changed).write_text("x = 1\n")
    assert source_digest(app) == before


def test_a_module_that_gives_nothing_but_deployments_is_theirs_alone(tree: Path):
    found = source_files(module("composed").Front)
    assert names(found, tree) == ["composed.py", "parts/given.py", "parts/right.py", "parts/whole.py"]
    left = source_files(module("parts.left").Left.func_or_class)
    assert names(left, tree) == ["parts/left.py", "unused.py"]
    assert set(left) < set(source_files(module("composed").More))


def test_an_import_path_has_the_files_of_its_module(tree: Path):
    assert source_files("shop.app:App") == source_files(importlib.import_module("shop.app").App)
    assert source_files("nowhere.at_all:App") == []


def test_libraries_do_not_count():
    assert source_files(json.JSONDecoder) == []
    assert source_digest(pytest.Config) == ""


def test_a_script_that_is_run_is_not_among_its_files(tree: Path, monkeypatch: pytest.MonkeyPatch):
    script = tree / "script.py"
    script.write_text("import unused\nclass Here: pass\n")
    main = ModuleType("__main__")
    main.__file__ = str(script)
    exec(compile(script.read_text(), str(script), "exec"), main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert names(source_files(main.Here), tree) == ["unused.py"]


def test_a_file_that_does_not_parse_still_counts(tree: Path):
    app = module("shop.app").App
    (tree / "shop/pricing.py").write_text("def broken(:\n")
    assert "shop/pricing.py" in names(source_files(app), tree)
    assert source_digest(app)


def test_what_was_made_by_hand_has_no_files():
    made = type("Made", (), {"__module__": "nowhere"})
    assert source_files(made) == []
    assert source_digest(made) == ""
