"""Runs a user's autoscaling policy for the controller, which runs no code of users: ``-m fairlead_replica.policy pid``.

Lines come in and go out. The first line in: the policy, an AutoscalingSettings, and the CodeEnvironment that it
expects, both base64, with a space between them. Each further one: JSON with ``contexts``, the fields of an
``AutoscalingContext`` by deployment, and the ``deployment`` to decide for; answered by one line, ``{"replicas": 3}``,
where null is no opinion, or ``{"error": "…"}``. It ends with its input. What the policy prints goes to standard error.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import importlib
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

import orjson

from fairlead.lifetime import process_ended
from fairlead.serve.autoscaling_context import AutoscalingContext
from fairlead.serve.handle import DeploymentID
from fairlead.v1 import control_pb2
from fairlead_replica.assignment import apply_environment
from fairlead_replica.tracebacks import user_traceback


def load_policy(settings: control_pb2.AutoscalingSettings) -> Callable[[Any], Any]:
    """The user's function, its further arguments filled in. Raises what importing or unpickling it raises."""
    if settings.WhichOneof("policy") == "policy_import_path":
        module, _, name = settings.policy_import_path.partition(":")
        function: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    else:
        function = pickle.loads(settings.pickled_policy)
    arguments = pickle.loads(settings.policy_arguments) if settings.policy_arguments else {}
    return functools.partial(function, **arguments)


class Policy:
    """A policy, and what it remembers from one decision to the next.

    ``of_application``: it gets all contexts by DeploymentID, and returns numbers by DeploymentID.
    """

    def __init__(self, function: Callable[[Any], Any], *, of_application: bool = False) -> None:
        self._function = function
        self._of_application = of_application
        self._state: dict[str, Any] = {}

    def decide(self, line: bytes) -> bytes:
        """The answer to one line. Never raises what the policy raises."""
        try:
            question = orjson.loads(line)
            contexts = {
                name: AutoscalingContext(**fields, policy_state=self._state)
                for name, fields in question["contexts"].items()
            }
            own = contexts[question["deployment"]]
            answer = self._function(_by_id(contexts) if self._of_application else own)
            wanted, state = answer if isinstance(answer, tuple) else (answer, self._state)
            if self._of_application:
                if not isinstance(wanted, Mapping):
                    raise TypeError(f"the policy of an application must return numbers by DeploymentID, not {wanted!r}")
                wanted = wanted.get(DeploymentID(own.deployment_name, own.app_name))
                if wanted is None:
                    self._state = dict(state)
                    return orjson.dumps({"replicas": None})
            if isinstance(wanted, bool) or not isinstance(wanted, int | float) or wanted < 0:
                raise TypeError(f"the policy must return a number of replicas, not {wanted!r}")
            self._state = dict(state)
            return orjson.dumps({"replicas": round(wanted)})
        except Exception as error:
            return orjson.dumps({"error": user_traceback(error)})


def _by_id(contexts: Mapping[str, AutoscalingContext]) -> dict[DeploymentID, AutoscalingContext]:
    return {DeploymentID(context.deployment_name, context.app_name): context for context in contexts.values()}


def serve(lines: Iterable[bytes], answers: IO[bytes]) -> None:
    """Answers until there are no more lines."""
    source = iter(lines)
    packed, environment = (base64.b64decode(part) for part in next(source).split(b" "))
    try:
        apply_environment(control_pb2.CodeEnvironment.FromString(environment))
        settings = control_pb2.AutoscalingSettings.FromString(packed)
        policy = Policy(load_policy(settings), of_application=settings.application_policy)
    except Exception as error:
        failure = orjson.dumps({"error": user_traceback(error)})
        answer: Callable[[bytes], bytes] = lambda _: failure  # noqa: E731 - whatever is asked
    else:
        answer = policy.decide
    for line in source:
        answers.write(answer(line) + b"\n")
        answers.flush()


def _end_with(pid: int) -> None:
    """Ends this process when another one is gone, whatever the policy does."""
    asyncio.run(process_ended(pid))
    os._exit(1)


def main() -> None:
    """Serves standard input, for as long as the process is there whose id is the argument."""
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
