"""What ``DeploymentHandle.options`` takes and refuses."""

from __future__ import annotations

import math

import pytest

from fairlead.serve.options import HandleOptions


@pytest.mark.parametrize(
    ("name", "value", "error", "said"),
    [
        ("method_name", 3, TypeError, "method_name must be a string, not int"),
        ("method_name", None, TypeError, "method_name must be a string, not NoneType"),
        ("session_id", b"x", TypeError, "session_id must be a string, not bytes"),
        ("stream", "yes", TypeError, "stream must be True or False, not 'yes'"),
        ("stream", 1, TypeError, "stream must be True or False, not 1"),
        ("idempotent", None, TypeError, "idempotent must be True or False, not None"),
        ("timeout_s", "1", TypeError, "timeout_s must be a number, not '1'"),
        ("timeout_s", 0, ValueError, "timeout_s must be greater than 0, not 0"),
        ("timeout_s", math.nan, ValueError, "timeout_s must be finite, not nan"),
        ("request_serialization", "json", ValueError, "'json'. Available: cloudpickle, pickle, msgpack, orjson."),
        ("response_serialization", None, TypeError, "not NoneType. Available: cloudpickle, pickle, msgpack, orjson."),
        ("use_new_handle_api", "x", TypeError, "use_new_handle_api must be True or False, not 'x'"),
        ("_prefer_local_routing", 1, TypeError, "_prefer_local_routing must be True or False, not 1"),
        ("_by_reference", "x", TypeError, "_by_reference must be True or False, not 'x'"),
        ("methodname", "x", TypeError, r"no option 'methodname'; they have \['idempotent', 'method_name'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name, value, error, said):
    options = HandleOptions()
    with pytest.raises(error, match=said):
        options.update({name: value})
    assert options == HandleOptions()
