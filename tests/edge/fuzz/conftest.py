"""``pytest tests/edge/fuzz --hypothesis-profile=fuzz`` looks longer than CI does; ``make fuzz`` runs it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("fuzz", max_examples=20_000, deadline=None, print_blob=True)
