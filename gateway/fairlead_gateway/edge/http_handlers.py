"""Requests for an application's request handler, or for its ASGI application: all that no route of it takes."""

from __future__ import annotations

from fairlead.wire.errors import MessageTooLargeError
from fairlead.wire.trust import Trust
from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.http_meter import REQUEST_ID, ROUTE
from fairlead_gateway.edge.http_mounts import Mount
from fairlead_gateway.edge.http_port import HttpPort
from fairlead_gateway.edge.http_request import (
    KEEP_ON_DISCONNECT,
    ClientGoneError,
    Receive,
    Scope,
    call_header,
    encode,
    read_body,
    request_id_of,
    timeout_of,
)
from fairlead_gateway.edge.http_response import CONNECTION, HttpConnection, Send, identify, respond, send_reply


async def forward(
    port: HttpPort, mount: Mount, noticed: dict[str, str], scope: Scope, receive: Receive, send: Send
) -> None:
    """Calls the ingress deployment with the request as it is, and answers as it does. See ``Exchange`` for the rest.

    This is an Exchange written out: most requests come here.
    """
    scope[ROUTE] = mount.application, mount.prefix
    limits = port.limits
    try:
        body = await read_body(scope, receive, limits.max_body_bytes)
    except MessageTooLargeError as error:
        reply = http_status.error_reply(error, http_status.CLOSE)
        identify(reply.headers, request_id_of(noticed))
        return await send_reply(send, reply)
    except ClientGoneError:
        return None
    timeout_s = timeout_of(noticed, limits) if noticed else limits.request_timeout_s
    header = call_header(mount, noticed, timeout_s)
    answer = Answer(limits.max_message_bytes)
    # The payload is made here, of a request that may say what it likes: the router checks no trust in it.
    payload = encode(scope, mount, body, port.root_path)
    answer.attach(port.router.start(header, payload, answer, trust=Trust.OWNER))
    scope[REQUEST_ID] = header.request_id
    connection: HttpConnection | None = scope.get(CONNECTION)
    if connection is not None and noticed.get(KEEP_ON_DISCONNECT) != "?1":
        connection.running = answer
    try:
        await respond(answer, header, timeout_s, send, connection)
    finally:
        if connection is not None:
            connection.running = None
            connection.flush()
        answer.close()
    return None
