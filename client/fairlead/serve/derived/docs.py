"""What classes say of their attributes, in the strings below them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any


def attribute_docs(kind: Any) -> dict[str, str]:
    """The docstrings of a class's attributes, of its base classes too; empty where there is no source to read."""
    found: dict[str, str] = {}
    for each in reversed(getattr(kind, "__mro__", ())):
        if each.__module__ not in ("builtins", "typing", "enum", "pydantic.main"):
            found |= _own(each)
    return found


def _own(kind: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    body = tree.body[0].body if tree.body and isinstance(tree.body[0], ast.ClassDef) else []
    found: dict[str, str] = {}
    for statement, below in pairwise(body):
        target: ast.expr | None = statement.target if isinstance(statement, ast.AnnAssign) else None
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        said = below.value if isinstance(below, ast.Expr) else None
        if isinstance(target, ast.Name) and isinstance(said, ast.Constant) and isinstance(said.value, str):
            found[target.id] = inspect.cleandoc(said.value)
    return found
