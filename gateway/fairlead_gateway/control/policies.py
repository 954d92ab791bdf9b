"""Users' autoscaling policies, each in a process of its own: one that blocks, crashes or lies delays only itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any

from fairlead.v1 import control_pb2
from fairlead_gateway.control.actions import AskPolicy
from fairlead_gateway.control.scaling import Key

logger = logging.getLogger("fairlead.controller")

TIMEOUT_S = 10.0
"""Seconds that a policy may take to decide, the start of its process included."""

_Answer = Callable[[Key, int | None, str], None]


class Policies:
    """The processes by deployment. Used on one event loop."""

    def __init__(self, module: str, on_answer: _Answer) -> None:
        """``module``: the program; ``on_answer``: hears how many replicas a policy wants, or None and why not."""
        self._module = module
        self._on_answer = on_answer
        self._programs: dict[Key, _Program] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._endings: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Policies {list(self._programs)}>"

    def ask(self, question: AskPolicy) -> None:
        """Has a policy decide. Nothing happens while it still thinks about the last question."""
        key = (question.application, question.deployment)
        if key not in self._tasks:
            task = self._tasks[key] = asyncio.get_running_loop().create_task(self._ask(key, question))
            task.add_done_callback(lambda _: self._tasks.pop(key, None))

    def keep(self, keys: set[Key]) -> None:
        """Ends the processes of all other deployments."""
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

    async def _ask(self, key: Key, question: AskPolicy) -> None:
        program = self._programs.get(key)
        if program is None or program.settings != question.settings:
            if program is not None:
                self._end(program)
            program = self._programs[key] = _Program(question.settings)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await program.ask(self._module, question)
            self._on_answer(key, answer.get("replicas"), answer.get("error", ""))
            return
        except TimeoutError:
            why = f"it did not decide within {TIMEOUT_S:g} s"
        except (OSError, ValueError) as error:
            why = f"its process ended: {error}"
        if self._programs.get(key) is program:
            self._end(self._programs.pop(key))
        self._on_answer(key, None, why)


class _Program:
    def __init__(self, settings: control_pb2.AutoscalingSettings) -> None:
        self.settings = settings
        self._process: Process | None = None

    async def ask(self, module: str, question: AskPolicy) -> dict[str, Any]:
        """The answer. Raises OSError or ValueError if the process ends instead."""
        process = self._process
        if process is None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, str(os.getpid()), stdin=PIPE, stdout=PIPE, start_new_session=True
            )
            assert process.stdin is not None
            parts = (question.settings, question.environment)
            process.stdin.write(b" ".join(base64.b64encode(part.SerializeToString()) for part in parts) + b"\n")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(
            json.dumps({"deployment": question.deployment, "contexts": question.contexts}).encode() + b"\n"
        )
        await process.stdin.drain()
        answer: dict[str, Any] = json.loads(await process.stdout.readline())
        return answer

    async def end(self) -> None:
        """Kills it; returns when it has ended."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()
