"""What calls of one handle share, and what one call leaves behind."""

from __future__ import annotations

import gc
import weakref

from fairlead.serve.call_template import RENEW_AFTER, CallTemplate
from fairlead.v1 import session_pb2
from fairlead.wire.codecs import CLOUDPICKLE


def template() -> CallTemplate:
    return CallTemplate(
        header=session_pb2.CallHeader(application="a", deployment="d", method="m", idempotent=True),
        request_codec=CLOUDPICKLE,
        response_codec=CLOUDPICKLE,
        timeout_s=None,
    )


def test_a_stamped_header_is_the_templates_with_the_calls_own_fields():
    stamped = template().stamp("id", "/route", 7)
    expected = session_pb2.CallHeader(
        application="a", deployment="d", method="m", idempotent=True, request_id="id", route="/route", timeout_us=7
    )
    assert stamped == expected


def test_nothing_of_one_call_is_left_for_the_next():
    shared = template()
    shared.stamp("one", "/one", 7)
    stamped = shared.stamp("two", "", 0)
    assert (stamped.request_id, stamped.route, stamped.timeout_us) == ("two", "", 0)
    assert shared.header == template().header


def test_the_header_is_made_anew_before_it_has_kept_many_strings():
    shared = template()
    headers = {id(shared.stamp(str(number), "", 0)): None for number in range(RENEW_AFTER)}
    assert len(headers) == 1
    before = shared._header
    assert shared.stamp("next", "", 0) is not before


async def test_a_call_that_ended_holds_neither_its_arguments_nor_a_cycle(handle):
    response = handle.remote("x" * 1000)
    assert await response == "x" * 1000
    assert response._call.payload == b""
    gone = weakref.ref(response)
    gc.disable()
    try:
        del response
        assert gone() is None
    finally:
        gc.enable()
