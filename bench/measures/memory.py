"""Resident memory of an idle instance: gateway, controller and one replica, without the driver."""

from __future__ import annotations

import time

import psutil

from bench.result import Row, Target
from bench.side import Side, SideError
from bench.sides import Sides

SETTLE_S = 2.0
MEBIBYTE = 1 << 20
PROCESSES = 3


def run(sides: Sides) -> list[Row]:
    rss = Row(
        title="idle memory, RSS",
        unit="MiB",
        reference_name="Ray Serve (quoted)",
        reference=[2050 * 1e6 / MEBIBYTE],
        target=Target(text="≤ 200 MB", at_most=200 * 1e6 / MEBIBYTE),
    )
    pss = Row(title="idle memory, PSS", unit="MiB", reference_name="none", note="shared pages divided by their users")

    def measure() -> float:
        with Side("bench.programs.fairlead_driver", environment=sides.environment) as driver:
            time.sleep(SETTLE_S)
            processes = psutil.Process(driver.pid).children(recursive=True)
            if len(processes) < PROCESSES:
                raise SideError(f"{PROCESSES} processes expected, {len(processes)} found")
            memory = [process.memory_full_info() for process in processes]
            rss.note = ", ".join(
                f"{_role(process)} {used.rss / MEBIBYTE:.0f}" for process, used in zip(processes, memory, strict=True)
            )
            if hasattr(memory[0], "pss"):  # Linux
                pss.fairlead.append(sum(used.pss for used in memory) / MEBIBYTE)
            return sum(used.rss for used in memory) / MEBIBYTE

    return [sides.sample(rss, fairlead=measure, reference=None), pss]


def _role(process: psutil.Process) -> str:
    modules = [part for part in process.cmdline() if part.startswith("fairlead_")]
    return modules[0].removeprefix("fairlead_") if modules else process.name()
