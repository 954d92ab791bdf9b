"""Checks of single values that users give. They raise TypeError or ValueError that names parameter and value."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fairlead.wire.errors import FairleadError


def check_text(name: str, value: Any) -> None:
    """Refuses what is not a non-empty string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")


def check_flag(name: str, value: Any) -> None:
    """Refuses what is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def check_integer(name: str, value: Any, *, at_least: int, at_most: int | None = None) -> None:
    """Refuses what is not an integer in the range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, not {value}")
    if at_most is not None and value > at_most:
        raise ValueError(f"{name} must be at most {at_most}, not {value}")


def check_number(name: str, value: Any, *, at_least: float | None = None, above: float | None = None) -> None:
    """Refuses what is not a finite number in the range."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value}")
    if at_least is not None and value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, not {value}")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be greater than {above}, not {value}")


def check_optional_number(name: str, value: Any, *, at_least: float | None = None, above: float | None = None) -> None:
    """Refuses what is neither None nor a finite number in the range."""
    if value is not None:
        check_number(name, value, at_least=at_least, above=above)


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Refuses what is not one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}")


def check_variables(name: str, value: Any) -> None:
    """Refuses what is not a mapping of environment variables' names to their values."""
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise TypeError(f"{name} must be a mapping of names to strings; put numbers in quotes")
    for key, text in value.items():
        if not key or "=" in key or "\0" in key + text:
            raise ValueError(f"{name}: there can be no environment variable {key!r} with the value {text!r}")


def check_application_name(name: Any) -> None:
    """Refuses what can be no application's name. Raises FairleadError, as Ray Serve does."""
    if not isinstance(name, str) or not name:
        raise FairleadError("Application name must a non-empty string.")
    if "/" in name or "#" in name:
        raise FairleadError(
            f"Application name must not contain '/' or '#', which are between names in application/deployment and in "
            f"replicas' ids; not {name!r}."
        )


def check_route_prefix(route_prefix: str | None) -> None:
    """Refuses what cannot be the path that an application is mounted at. None: not reachable over HTTP."""
    if route_prefix is None:
        return
    if not isinstance(route_prefix, str):
        raise TypeError(f"route_prefix must be a string or None, not {type(route_prefix).__name__}")
    if not route_prefix.startswith("/"):
        raise ValueError(f"Invalid route_prefix '{route_prefix}', must start with a forward slash ('/').")
    if route_prefix != "/" and route_prefix.endswith("/"):
        raise ValueError(f"Invalid route_prefix '{route_prefix}', may not end with a trailing '/'.")
    if "{" in route_prefix or "}" in route_prefix:
        raise ValueError(f"Invalid route_prefix '{route_prefix}', may not contain wildcards.")


def suggestion(name: str, known: Iterable[str]) -> str:
    """What somebody who wrote an unknown name may have meant, as the end of a sentence; else what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names) or 'none'}"
