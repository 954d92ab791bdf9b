"""What ``DeploymentHandle.options`` sets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypedDict

from fairlead.serve.call_template import CallTemplate
from fairlead.serve.settings import DEFAULT
from fairlead.serve.validation import check_flag, check_optional_number
from fairlead.v1 import session_pb2
from fairlead.wire.codecs import codec_named


class OptionNames(TypedDict, total=False):
    """The keywords of ``DeploymentHandle.options`` but ``stream``, for type checkers."""

    method_name: str | DEFAULT
    multiplexed_model_id: str | DEFAULT
    session_id: str | DEFAULT
    shard_key: str | DEFAULT
    timeout_s: float | DEFAULT | None
    idempotent: bool | DEFAULT
    request_serialization: str | DEFAULT
    response_serialization: str | DEFAULT
    use_new_handle_api: bool | DEFAULT
    _prefer_local_routing: bool | DEFAULT
    _by_reference: bool | DEFAULT


@dataclass(frozen=True, kw_only=True, slots=True)
class HandleOptions:
    """How a handle calls."""

    method_name: str = "__call__"
    """The method."""
    multiplexed_model_id: str = ""
    """The model to use; empty: none."""
    session_id: str = ""
    """Calls of one session prefer one replica; empty: none."""
    shard_key: str = ""
    """Calls with one key go to one backend of an endpoint with several; empty: by ``session_id``."""
    stream: bool = False
    """Whether calls return generators."""
    timeout_s: float | None = None
    """Seconds that a call may take, queueing included; the callee is told. None: no limit but the caller's own."""
    idempotent: bool = False
    """Whether a call may be executed twice, so that it is sent again when a replica or a connection is lost."""
    request_serialization: str = "cloudpickle"
    """How arguments are encoded."""
    response_serialization: str = "cloudpickle"
    """How results are encoded."""

    def __post_init__(self) -> None:
        for name in ("method_name", "multiplexed_model_id", "session_id", "shard_key"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a string, not {type(value).__name__}")
        for name in ("stream", "idempotent"):
            check_flag(name, getattr(self, name))
        check_optional_number("timeout_s", self.timeout_s, above=0)
        for name in ("request_serialization", "response_serialization"):
            object.__setattr__(self, name, codec_named(getattr(self, name)).name)

    def update(self, given: Mapping[str, Any]) -> Self:
        """A copy with the options that were given; those that are ``DEFAULT.VALUE`` stay.

        Raises TypeError for unknown ones, ValueError or TypeError for values that cannot be.
        """
        changes = {name: value for name, value in given.items() if value is not DEFAULT.VALUE}
        without_effect = {name: changes.pop(name, False) for name in _WITHOUT_EFFECT}
        for name, value in without_effect.items():
            check_flag(name, value)
        if without_effect["_by_reference"]:
            warnings.warn(
                "_by_reference=True has no effect: Fairlead has no object store, values always travel by value",
                UserWarning,
                stacklevel=3,
            )
        unknown = sorted(set(changes) - _KNOWN)
        if unknown:
            raise TypeError(f"handles have no option {', '.join(map(repr, unknown))}; they have {sorted(_KNOWN)}")
        return replace(self, **changes)

    def given(self) -> dict[str, Any]:
        """The options that differ from the defaults; what a pickled handle carries."""
        return {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}

    def template(
        self,
        application: str,
        deployment: str,
        *,
        broadcast: bool = False,
        reserve: bool = False,
        reservation_id: str = "",
    ) -> CallTemplate:
        """What all calls with these options have in common."""
        request = codec_named(self.request_serialization)
        response = codec_named(self.response_serialization)
        header = session_pb2.CallHeader(
            application=application,
            deployment=deployment,
            method=self.method_name,
            request_serialization=request.serialization,
            response_serialization=response.serialization,
            stream=self.stream or reserve,
            broadcast=broadcast,
            idempotent=self.idempotent or reserve,  # of two reservations, the lost connection's has ended
            multiplexed_model_id=self.multiplexed_model_id,
            session_id=self.session_id,
            shard_key=self.shard_key,
        )
        if reserve:
            header.reserve = True
        if reservation_id:
            header.reservation_id = reservation_id
        return CallTemplate(header=header, request_codec=request, response_codec=response, timeout_s=self.timeout_s)


_WITHOUT_EFFECT = (
    "use_new_handle_api",  # there is only one
    "_prefer_local_routing",  # the gateway knows best
    "_by_reference",
)
_KNOWN = frozenset(one.name for one in fields(HandleOptions))
