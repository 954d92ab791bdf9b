"""``python -m bench``: measures, prints the table, keeps the figures."""

from __future__ import annotations

import argparse
import os
from time import perf_counter

from bench import report
from bench.measures import (
    batching,
    cold_start,
    grpc_unary,
    handle_calls,
    http_json,
    megabyte,
    memory,
    multiplexing,
    streams,
    transcoding,
)
from bench.result import Row
from bench.sides import Sides

MEASURES = {
    "handle": handle_calls.run,
    "grpc": grpc_unary.run,
    "http": http_json.run,
    "transcoding": transcoding.run,
    "streams": streams.run,
    "megabyte": megabyte.run,
    "batching": batching.run,
    "multiplexing": multiplexing.run,
    "cold-start": cold_start.run,
    "memory": memory.run,
}

QUIET_LOAD = 0.5
"""The load average up to which a machine counts as idle."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Fairlead against bare servers.")
    parser.add_argument("--only", action="append", choices=MEASURES, help="measure only this; may be repeated")
    parser.add_argument("--quick", action="store_true", help="shorter and fewer samples: a look, not a measurement")
    arguments = parser.parse_args()
    seconds, repeats = (1.0, 2) if arguments.quick else (2.0, 9)

    begin = perf_counter()
    print(f"{repeats} samples of {seconds:g} s each, sides taking turns, on {os.cpu_count()} CPUs")
    if (load := os.getloadavg()[0]) > QUIET_LOAD:
        print(f"the machine is busy (load {load:.1f}): what needs several processes will look worse than it is")
    rows: list[Row] = []
    with Sides(seconds=seconds, repeats=repeats) as sides:
        for name, run in MEASURES.items():
            if not arguments.only or name in arguments.only:
                print(f"{name} …", flush=True)
                rows += run(sides)
    path = report.keep(rows, seconds=seconds, repeats=repeats, load=load)
    print(f"\n{report.table(rows)}\n\n{perf_counter() - begin:.0f} s; all samples in {path}")


if __name__ == "__main__":
    main()
