"""A call of a typed service's method on its way to the router, whatever door its messages came by."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from fairlead.v1 import session_pb2
from fairlead.wire.errors import FairleadError, InternalError, InvalidCallError
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.typed.rpc_method import RpcMethod
from fairlead_gateway.edge.upstream import CallRouter

logger = logging.getLogger(__name__)


async def drive(
    router: CallRouter,
    method: RpcMethod,
    header: session_pb2.CallHeader,
    messages: AsyncIterator[bytes],
    answer: Answer,
    trust: Trust,
) -> None:
    """Starts a call of a method that takes a stream, and passes the messages on as fast as they are taken.

    Returns when the last one has been passed on, or the call is over; what goes wrong ends the call. Run it in a task
    beside the one that reads the answer. Cancelling it leaves the call as it is.
    """
    try:
        await _drive(router, method, header, messages, answer, trust)
    except FairleadError as error:
        answer.fail(error)
    except Exception:
        logger.exception("the messages of a call of %s could not be passed on", method.path)
        answer.fail(InternalError("internal error in the gateway"))


async def _drive(
    router: CallRouter,
    method: RpcMethod,
    header: session_pb2.CallHeader,
    messages: AsyncIterator[bytes],
    answer: Answer,
    trust: Trust,
) -> None:
    first = b""
    if not method.starts_empty:
        found = await anext(messages, None)
        if found is None:
            raise InvalidCallError(f"{method.path} needs a first message that says what is called")
        first = found
    call = router.start(header, method.begin(header, first), answer, trust=trust, last=False)
    answer.attach(call)
    async for message in messages:
        if answer.ended:
            return
        if not call.send(method.further(message)):
            await answer.writable()
    if not answer.ended:
        call.send(b"", last=True)
