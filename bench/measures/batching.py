"""A NumPy model in batches: requests per second against the batch size, beside LitServe's batching of the same work."""

from __future__ import annotations

from bench.environments import Environment
from bench.foreign import ForeignServer, free_port
from bench.load_tools import wrk_script
from bench.measures.http_load import Loaded, compared
from bench.result import Row
from bench.side import Side
from bench.sides import Sides

SIZES = (1, 4, 16, 32)
WAIT_S = 0.005
BODY = b'{"number": 7}'
LITSERVE = Environment(name="LitServeNumPy", requirements=("litserve", "numpy"))


def run(sides: Sides) -> list[Row]:
    script = wrk_script(sides.scratch / "number.lua", BODY.decode())
    rows: list[Row] = []
    with Side("bench.programs.matrix_driver", environment=sides.environment) as driver:
        for size in SIZES:
            driver.ask("use", size=size, wait_s=WAIT_S)
            servers: list[ForeignServer] = []

            def fairlead() -> Loaded:
                return Loaded(f"http://{driver.facts['http']}/", [driver])

            def litserve(size: int = size, servers: list[ForeignServer] = servers) -> Loaded:
                if not servers:
                    servers.append(_litserve(size))
                return Loaded(servers[0].url, servers)

            try:
                title = f"matrix model, batches of {size}"
                rows += compared(sides, title, script, fairlead, ("LitServe", litserve), None)
            finally:
                for server in servers:
                    server.close()
    return rows


def _litserve(size: int) -> ForeignServer:
    port = free_port()
    command = [LITSERVE.program("python"), "-m", "bench.others.litserve_matrix", str(port), str(size), str(WAIT_S)]
    return ForeignServer("LitServe", command, f"http://127.0.0.1:{port}/predict", BODY)
