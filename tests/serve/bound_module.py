"""Deployments in a module that replicas can import."""

from __future__ import annotations

from fairlead import serve


class Plain:
    """Not decorated."""


@serve.deployment
class Decorated:
    """Decorated: the module's name stands for the deployment."""


@serve.deployment
def function(request):
    """A function deployment."""
    return request


class Holder:
    """Carries an application as an attribute."""

    def __init__(self, inner):
        self.inner = inner
