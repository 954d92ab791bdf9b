"""Runs a user's autoscaling policy for the controller, which runs no code of users: ``-m fairlead_replica.policy pid``.

Lines come in and go out. The first line in: the policy, an AutoscalingSettings, and the CodeEnvironment that it
expects, both base64, with a space between them. Each further one: JSON with ``contexts``, the fields of an
``AutoscalingContext`` by deployment; answered by one line, ``{"replicas": {"Model": 3}}``, without those that the
policy has no opinion about, or ``{"error": "…"}``. It ends with its input. What the policy prints goes to standard
error.
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

_Contexts = dict[DeploymentID, AutoscalingContext]
_Decision = tuple[Mapping[DeploymentID, Any], Mapping[DeploymentID, dict[str, Any]]]


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
    """A policy, and what it remembers from one decision to the next, by deployment.

    ``of_application``: it gets all contexts by DeploymentID, and returns numbers by DeploymentID.
    """

    def __init__(self, function: Callable[[Any], Any], *, of_application: bool = False) -> None:
        self._decide = self._for_all if of_application else self._for_each
        self._function = function
        self._states: Mapping[DeploymentID, dict[str, Any]] = {}

    def decide(self, line: bytes) -> bytes:
        """The answer to one line. Never raises what the policy raises."""
        try:
            contexts = {}
            for fields in orjson.loads(line)["contexts"].values():
                name = DeploymentID(fields["deployment_name"], fields["app_name"])
                contexts[name] = AutoscalingContext(**fields, policy_state=self._states.get(name, {}))
            wanted, states = self._decide(contexts)
            replicas = {name.name: _number(each) for name, each in wanted.items()}
            self._states = states
            return orjson.dumps({"replicas": replicas})
        except Exception as error:
            return orjson.dumps({"error": user_traceback(error)})

    def _for_each(self, contexts: _Contexts) -> _Decision:
        wanted, states = {}, {}
        for name, context in contexts.items():
            answer = self._function(context)
            wanted[name], state = answer if isinstance(answer, tuple) else (answer, context.policy_state)
            states[name] = dict(state)
        return wanted, states

    def _for_all(self, contexts: _Contexts) -> _Decision:
        answer = self._function(contexts)
        wanted, states = answer if isinstance(answer, tuple) else (answer, self._states)
        if not _is_by_id(wanted):
            raise TypeError(f"the policy of an application must return numbers by DeploymentID, not {wanted!r}")
        states = {} if states is None else states
        if not _is_by_id(states) or not all(isinstance(state, dict) for state in states.values()):
            raise TypeError(f"the policy of an application must return dictionaries by DeploymentID, not {states!r}")
        for name in (*wanted, *states):
            if name not in contexts:
                raise ValueError(f"the policy decided for what does not scale: there is no deployment {name.name!r}")
        return wanted, states


def _is_by_id(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, DeploymentID) for name in value)


def _number(wanted: Any) -> int:
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or wanted < 0:
        raise TypeError(f"the policy must return a number of replicas, not {wanted!r}")
    return round(wanted)


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
