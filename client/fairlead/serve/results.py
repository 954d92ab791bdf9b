"""``fairlead.get`` and ``fairlead.wait``: for scripts that were written with ``ray.get`` and ``ray.wait``."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar, overload

from fairlead.serve.response import DeploymentResponse
from fairlead.serve.validation import check_integer, check_optional_number

R = TypeVar("R")


@overload
def get(responses: DeploymentResponse[R], *, timeout: float | None = None) -> R: ...
@overload
def get(responses: Sequence[DeploymentResponse[R]], *, timeout: float | None = None) -> list[R]: ...
def get(responses: Any, *, timeout: float | None = None) -> Any:
    """The result of a response, or the list of results of several; blocks at most ``timeout`` seconds for all.

    Raises TimeoutError, the first failure in the order given, RuntimeError in an event loop, and TypeError for what is
    no response.
    """
    check_optional_number("timeout", timeout, at_least=0)
    if isinstance(responses, DeploymentResponse):
        return responses.result(timeout_s=timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    results = []
    for response in _checked(responses):
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        results.append(response.result(timeout_s=left))
    return results


def wait(
    responses: Sequence[DeploymentResponse[R]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[DeploymentResponse[R]], list[DeploymentResponse[R]]]:
    """Blocks until ``num_returns`` of the responses are over, failures included, at most ``timeout`` seconds.

    Returns those that are over, ``num_returns`` at most, and the others, both in the order given. ``fetch_local`` is
    accepted for compatibility. Raises ValueError for a ``num_returns`` that cannot be.
    """
    wanted = _checked(responses)
    check_integer("num_returns", num_returns, at_least=1, at_most=len(wanted))
    check_optional_number("timeout", timeout, at_least=0)
    if len({id(response) for response in wanted}) != len(wanted):
        raise ValueError("a response stands in the list more than once")
    arrived = threading.Semaphore(0)
    missing = num_returns
    added = []
    for response in wanted:
        if response._call.add(arrived.release):
            added.append(response)
        else:
            missing -= 1
    deadline = None if timeout is None else time.monotonic() + timeout
    while missing > 0:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        if not arrived.acquire(timeout=left):
            break
        missing -= 1
    for response in added:
        response._call.discard(arrived.release)
    ready = [response for response in wanted if response._call.done][:num_returns]
    taken = {id(response) for response in ready}
    return ready, [response for response in wanted if id(response) not in taken]


def _checked(responses: Any) -> list[DeploymentResponse[Any]]:
    if not isinstance(responses, list | tuple) or not all(isinstance(one, DeploymentResponse) for one in responses):
        raise TypeError("a DeploymentResponse expected, or a list of them")
    return list(responses)
