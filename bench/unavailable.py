"""What is said where something cannot be measured."""

from __future__ import annotations


class UnavailableError(Exception):
    """A side cannot be measured here; the message says why, and what would help."""
