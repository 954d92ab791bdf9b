"""For all tests: what Hypothesis tries may take as long as a busy machine needs; ``timeout`` bounds whole tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
