"""Users' autoscaling policies, each in a process of its own: one that blocks, crashes or lies delays only itself.

One process answers for all deployments of an application whose policy is the application's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from typing import Any

from fairlead_gateway.control.actions import AskPolicy, PolicyKey

logger = logging.getLogger("fairlead.controller")

TIMEOUT_S = 10.0
"""Seconds that a policy may take to decide, the start of its process included."""

_Answer = Callable[[PolicyKey, Mapping[str, int], str], None]


class Policies:
    """The processes. Used on one event loop."""

    def __init__(self, module: str, on_answer: _Answer) -> None:
        """``module``: the program; ``on_answer``: hears how many replicas a policy wants, by deployment, or why it
        does not say.
        """
        self._module = module
        self._on_answer = on_answer
        self._programs: dict[PolicyKey, _Program] = {}
        self._tasks: dict[PolicyKey, asyncio.Task[None]] = {}
        self._endings: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Policies {list(self._programs)}>"

    def ask(self, question: AskPolicy) -> None:
        """Has a policy decide. Nothing happens while it still thinks about the last question."""
        key = question.key
        if key not in self._tasks:
            task = self._tasks[key] = asyncio.get_running_loop().create_task(self._ask(key, question))
            task.add_done_callback(lambda _: self._tasks.pop(key, None))

    def keep(self, keys: set[PolicyKey]) -> None:
        """Ends the processes of all other policies."""
        for key in self._programs.keys() - keys:
            self._end(self._programs.pop(key))

    async def close(self) -> None:
        """Ends all of them, and waits for that."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.keep(set())
        await asyncio.gather(*self._endings, return_exceptions=True)

    def _end(self, program: _Program) -> None:
        ending = asyncio.get_running_loop().create_task(program.end())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _ask(self, key: PolicyKey, question: AskPolicy) -> None:
        program = self._programs.get(key)
        if program is None or not program.answers(question):
            if program is not None:
                self._end(program)
            program = self._programs[key] = _Program(question)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await program.ask(self._module, question)
            self._on_answer(key, answer.get("replicas", {}), answer.get("error", ""))
            return
        except TimeoutError:
            why = f"it did not decide within {TIMEOUT_S:g} s"
        except (OSError, ValueError) as error:
            why = f"its process ended: {error}"
        if self._programs.get(key) is program:
            self._end(self._programs.pop(key))
        self._on_answer(key, {}, why)


class _Program:
    def __init__(self, question: AskPolicy) -> None:
        self._policy, self._environment = question.policy, question.environment
        self._process: Process | None = None
        self._ended = False

    def answers(self, question: AskPolicy) -> bool:
        """Whether it is the policy that a question is for."""
        return bool(self._policy == question.policy and self._environment == question.environment)

    async def ask(self, module: str, question: AskPolicy) -> dict[str, Any]:
        """The answer. Raises OSError or ValueError if the process ends instead."""
        process = self._process
        if process is None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, str(os.getpid()), stdin=PIPE, stdout=PIPE, start_new_session=True
            )
            if self._ended:
                await self.end()
                raise ValueError("it is not wanted any more")
            assert process.stdin is not None
            parts = (self._policy, self._environment)
            process.stdin.write(b" ".join(base64.b64encode(part.SerializeToString()) for part in parts) + b"\n")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"contexts": question.contexts}).encode() + b"\n")
        await process.stdin.drain()
        answer: dict[str, Any] = json.loads(await process.stdout.readline())
        return answer

    async def end(self) -> None:
        """Kills it, at the latest when it has started; returns when it has ended. It may be thinking."""
        self._ended = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
