"""A real HTTP door against a fake router that answers with the library's messages."""

import contextlib

import httpx
from google.rpc import status_pb2

from fairlead.v1 import session_pb2
from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.http_door import HttpDoor
from tests.edge.fake_router import FakeRouter
from tests.edge.typed.schema import application, message

INPUTS = {
    "GetBook": "GetBookRequest",
    "CreateBook": "CreateBookRequest",
    "UpdateBook": "UpdateBookRequest",
    "MoveBook": "MoveBookRequest",
    "SearchBooks": "SearchBooksRequest",
    "WatchBooks": "SearchBooksRequest",
    "AddBooks": "CreateBookRequest",
    "Chat": "Book",
    "GetCover": "GetBookRequest",
    "PutCover": "PutCoverRequest",
    "ReadBook": "GetBookRequest",
}


BOOKS = [message("Book", title="a"), message("Book"), message("Book", title="c")]


def request_of(call):
    """The request message of a call."""
    return message(INPUTS[call.header.method.rpartition("/")[2]]).FromString(call.payload)


def returns(*messages, late=None):
    """A behaviour: these messages, then success or an outcome."""

    async def behave(call):
        if call.header.stream:
            for each in messages:
                await call.stream(each.SerializeToString())
            call.downstream.on_end(late, None)
        else:
            call.downstream.on_end(late, None if late else messages[0].SerializeToString())

    return behave


def outcome(code, text, *details, **trailing):
    found = session_pb2.Outcome(status=status_pb2.Status(code=code, message=text))
    for detail in details:
        found.status.details.add().Pack(detail)
    for key, value in trailing.items():
        found.trailing_metadata.add(key=key.replace("_", "-"), value=value)
    return found


@contextlib.asynccontextmanager
async def served(*applications, behave=None, limits=None, listener=None):
    router = FakeRouter(behave or returns(message("Book", title="Emma", copies=3)))
    router.deploy(*(applications or (application(),)))
    door = HttpDoor(router, listener or TcpListener(), limits=limits)
    address = await door.start()
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=60) as client:
        try:
            yield client, router
        finally:
            await client.aclose()
            await door.stop(1)
