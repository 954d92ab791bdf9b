"""At the path where classic Ray Serve has it."""

from __future__ import annotations

from fairlead.serve.classic.request import ServeRequest

__all__ = ["ServeRequest"]
