"""What a backend sees of a call through a handle: the counterpart of Starlette's ``Request``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fairlead.wire.errors import FairleadError


class Values(Mapping[str, Any]):
    """Values by name, with Starlette's ``getlist``. Headers are found in any case."""

    def __init__(self, values: Mapping[str, Any], *, any_case: bool = False) -> None:
        self._values = dict(values)
        self._lower = {name.lower(): name for name in self._values} if any_case else {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._values and self._lower:
            return self._values[self._lower[key.lower()]]
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def getlist(self, key: str) -> list[Any]:
        """The value in a list; empty where there is none."""
        return [self[key]] if key in self else []


class ServeRequest:
    """A call through a handle, in the shape of a HTTP request. Values keep their Python types."""

    def __init__(self, data: Any, kwargs: Mapping[str, Any], headers: Mapping[str, str], method: str) -> None:
        self.data = data
        """The object that was passed; None: there was none."""
        self.query_params = Values(kwargs)
        """The keyword arguments."""
        self.headers = Values(headers, any_case=True)
        """What ``options(http_headers=...)`` said."""
        self.method = method
        """What ``options(http_method=...)`` said; GET by default."""

    def __repr__(self) -> str:
        return f"<ServeRequest {self.method} data={self.data!r} query_params={self.query_params!r}>"

    @property
    def args(self) -> Values:
        """The same as ``query_params``."""
        return self.query_params

    async def body(self) -> Any:
        """The object that was passed, as it is."""
        return self.data

    async def json(self) -> dict[Any, Any]:
        """The dictionary that was passed. Raises FairleadError (``RayServeException``) for anything else."""
        return self._dictionary("json")

    async def form(self) -> dict[Any, Any]:
        """The same."""
        return self._dictionary("form")

    def _dictionary(self, what: str) -> dict[Any, Any]:
        if not isinstance(self.data, dict):
            raise FairleadError(f"Request data must be a dictionary for {what}(); it is a {type(self.data).__name__}.")
        return self.data
