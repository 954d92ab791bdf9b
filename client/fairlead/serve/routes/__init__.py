"""``@serve.route``: methods bound to HTTP paths."""

from fairlead.serve.routes.declaration import route

__all__ = ["route"]
