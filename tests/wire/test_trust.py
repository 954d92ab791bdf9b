"""Which serializations which connections may carry."""

from __future__ import annotations

import pytest

from fairlead.v1 import session_pb2
from fairlead.wire.errors import UnknownSerializationError, UntrustedSerializationError
from fairlead.wire.trust import Trust, check_serialization

CODE = [session_pb2.SERIALIZATION_CLOUDPICKLE, session_pb2.SERIALIZATION_PICKLE]
SAFE = [session_pb2.SERIALIZATION_MSGPACK, session_pb2.SERIALIZATION_JSON]


@pytest.mark.parametrize("serialization", SAFE)
@pytest.mark.parametrize("trust", Trust)
def test_what_runs_no_code_is_for_everybody(serialization: int, trust: Trust):
    check_serialization(serialization, trust)


@pytest.mark.parametrize("serialization", CODE)
@pytest.mark.parametrize("trust", [Trust.OWNER, Trust.AUTHENTICATED])
def test_pickles_are_for_trusted_peers(serialization: int, trust: Trust):
    check_serialization(serialization, trust)


@pytest.mark.parametrize("serialization", CODE)
def test_pickles_of_others_are_refused_and_the_error_says_what_works(serialization: int):
    with pytest.raises(UntrustedSerializationError, match="msgpack, orjson"):
        check_serialization(serialization, Trust.UNTRUSTED)


def test_http_payloads_come_from_our_own_door_only():
    check_serialization(session_pb2.SERIALIZATION_HTTP, Trust.OWNER)
    with pytest.raises(UnknownSerializationError):
        check_serialization(session_pb2.SERIALIZATION_HTTP, Trust.UNTRUSTED)


@pytest.mark.parametrize("serialization", [0, 99, -1])
@pytest.mark.parametrize("trust", Trust)
def test_unknown_serializations_are_refused(serialization: int, trust: Trust):
    with pytest.raises(UnknownSerializationError, match="cloudpickle, pickle, msgpack, orjson"):
        check_serialization(serialization, trust)


def test_who_may_run_code():
    assert [trust for trust in Trust if trust.may_run_code] == [Trust.AUTHENTICATED, Trust.OWNER]
