"""A plugin of mypy's, to be named in its settings: ``plugins = ["fairlead.mypy_plugin"]``.

mypy ignores what a class decorator returns, and takes a class under ``@serve.deployment`` for the class itself. With
the plugin, members that are looked up by the name of such a class are those of the ``Deployment`` that it stands for.
Imported by mypy only: Fairlead does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mypy.checker import TypeChecker
from mypy.nodes import MemberExpr, TypeInfo
from mypy.plugin import AttributeContext, ClassDefContext, Plugin
from mypy.types import FunctionLike, Instance, Type
from mypy.typevars import fill_typevars_with_any

_DECORATOR: Final = "fairlead.serve.deployment.deployment"
_DEPLOYMENT: Final = "fairlead.serve.deployment.Deployment"
_MARK: Final = "fairlead.deployment"


class DeploymentPlugin(Plugin):
    """What mypy asks."""

    def get_class_decorator_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        """Called for each decorator of a class, by its whole name."""
        return _mark if fullname == _DECORATOR else None

    def get_class_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type]:
        """Called for each member that is looked up on a class. By the name of a local class it could not be found."""
        return self._member

    def _member(self, context: AttributeContext) -> Type:
        """The type of a deployment's member. What is looked up by ``cls`` stays the class's."""
        looked_up, on, checker = context.context, context.type, context.api
        if not (isinstance(looked_up, MemberExpr) and isinstance(on, FunctionLike) and on.is_type_obj()):
            return context.default_attr_type
        info = on.type_object()
        found = self.lookup_fully_qualified(_DEPLOYMENT) if _MARK in info.metadata else None
        if found is None or not isinstance(found.node, TypeInfo) or not isinstance(checker, TypeChecker):
            return context.default_attr_type
        deployment = Instance(found.node, [fill_typevars_with_any(info)])
        return checker.expr_checker.analyze_external_member_access(looked_up.name, deployment, looked_up)


def _mark(context: ClassDefContext) -> None:
    info = context.cls.info
    info.metadata[_MARK] = {}
    info.meta_fallback_to_any = True  # so that members that the class has not are asked for, too


def plugin(version: str) -> type[Plugin]:
    """What mypy loads, whatever its version."""
    return DeploymentPlugin
