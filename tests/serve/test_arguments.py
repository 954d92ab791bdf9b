"""Arguments that cannot be sent."""

from __future__ import annotations

import threading
import traceback

import pytest

from fairlead.serve.exceptions import RayServeException


class Spoilt:
    """Cannot be pickled, through the user's own fault."""

    def __reduce__(self):
        raise LookupError("spoilt")


class Sealed(Exception):
    """Takes no attributes."""

    def __setattr__(self, name, value):
        raise TypeError("sealed")


class Sealing:
    def __reduce__(self):
        raise Sealed("in wax")


def failure(response) -> tuple[BaseException, str]:
    """What fetching raises, and what is printed of it."""
    with pytest.raises(Exception) as raised:
        response.result()
    return raised.value, "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("serialization", ["cloudpickle", "pickle", "msgpack", "orjson"])
def test_the_error_says_of_which_call_and_shows_no_inner_lines(handle, gateway, serialization):
    chosen = handle.options(request_serialization=serialization)
    for response in (chosen.echo.remote(threading.Lock()), chosen.echo.remote(key=threading.Lock())):
        error, printed = failure(response)
        assert type(error) is TypeError
        assert f"the arguments of the call to app#Echo.echo cannot be encoded as {serialization}" in printed
        assert "codecs.py" not in printed
        assert "cloudpickle.py" not in printed
    assert gateway.calls == []


def test_the_users_own_lines_are_shown(handle):
    error, printed = failure(handle.echo.remote([Spoilt()]))
    assert type(error) is LookupError
    assert 'raise LookupError("spoilt")' in printed
    assert "codecs.py" not in printed


def test_an_error_that_takes_no_note(handle):
    error, _ = failure(handle.echo.remote(Sealing()))
    assert type(error) is Sealed


@pytest.mark.parametrize("serialization", ["cloudpickle", "orjson"])
def test_a_nested_response(handle, serialization):
    chosen = handle.options(request_serialization=serialization)
    error, printed = failure(chosen.echo.remote([handle.echo.remote(1)]))
    assert type(error) is RayServeException
    assert "only pass `DeploymentResponse` objects as top level arguments" in printed
    assert "in encode" not in printed
