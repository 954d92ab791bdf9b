"""A script as a user writes it: imports, serves, gets its first answer."""

from __future__ import annotations

from bench.echo_app import app
from bench.programs.commands import say
from fairlead import serve

if __name__ == "__main__":
    serve.start(http_options={"port": 0}, grpc_options={"port": 0})
    answer = serve.run(app).echo.remote("first").result()
    say(answer=answer)
    serve.shutdown()
