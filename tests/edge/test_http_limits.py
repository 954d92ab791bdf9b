from __future__ import annotations

import dataclasses

import pytest

from fairlead.serve.config import HTTPOptions
from fairlead.serve.doors import Doors
from fairlead_gateway.__main__ import parse
from fairlead_gateway.edge.http_limits import HttpLimits, limit

COMMAND = ["--controller", "unix:/c", "--gateway-id", "g", "--socket", "/s", "--http-port", "0"]


def limits_of(options: HTTPOptions) -> HttpLimits:
    """What a gateway worker makes of a user's options."""
    arguments = Doors(http=options).arguments()
    return parse([*COMMAND, *arguments[arguments.index("--") + 1 :]], {}).http_limits


def test_users_and_workers_have_the_same_defaults() -> None:
    assert limits_of(HTTPOptions()) == HttpLimits()
    options, limits = HTTPOptions(), HttpLimits()
    shared = {one.name for one in dataclasses.fields(HTTPOptions)} & {one.name for one in dataclasses.fields(limits)}
    assert len(shared) == 11
    assert {name: getattr(options, name) for name in shared} == {name: getattr(limits, name) for name in shared}


def test_what_users_set_reaches_workers() -> None:
    given = {
        "keep_alive_timeout_s": 1.5,
        "request_timeout_s": 2.5,
        "max_request_timeout_s": 3.5,
        "max_body_bytes": 10,
        "max_incoming_bytes": 13,
        "max_head_bytes": 11,
        "head_timeout_s": 4.5,
        "body_timeout_s": 5.5,
        "write_timeout_s": 6.5,
        "max_websocket_message_bytes": 12,
        "metadata_headers": ("x.tenant", "-region"),
    }
    limits = limits_of(HTTPOptions(**given))
    assert {name: getattr(limits, name) for name in given} == given


def test_the_longest_time_bounds_the_default() -> None:
    assert HttpLimits(max_request_timeout_s=5).request_timeout_s == 5
    assert HttpLimits(max_request_timeout_s=5, request_timeout_s=9).request_timeout_s == 5
    assert HttpLimits(max_request_timeout_s=5, request_timeout_s=2).request_timeout_s == 2


@pytest.mark.parametrize("text", ["made_up=1", "max_body_bytes", "max_body_bytes=x", "max_body_bytes=1.5"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ValueError):
        limit(text)


@pytest.mark.parametrize(
    "options",
    [
        {"max_body_bytes": 0},
        {"max_head_bytes": -1},
        {"max_incoming_bytes": 0},
        {"head_timeout_s": 0},
        {"body_timeout_s": -1},
        {"write_timeout_s": 0},
        {"max_request_timeout_s": 0},
        {"max_websocket_message_bytes": 0},
    ],
)
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        HTTPOptions(**options)
