"""``python -m examples.digits``: serves the classifier and says how to call it. ``make run`` does this."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from examples.digits.app import app
from fairlead import serve
from fairlead.serve import api

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.digits", description=__doc__)
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=9000)
    options = parser.parse_args()
    serve.start(http_options={"port": options.http_port}, grpc_options={"port": options.grpc_port})
    handle = serve.run(app, name="digits", route_prefix="/digits")
    gateway = api.instance_status().gateways[0]
    print(
        f"\nServing handwritten digits; the model is right on {handle.accuracy.remote().result():.1%} of unseen ones."
    )
    print(commands(gateway.http_address, gateway.grpc_address), flush=True)
    api.wait()


def commands(http_address: str, grpc_address: str) -> str:
    """What to type into another terminal, from the folder that the program was started in."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return f"""
Try it from another terminal:

  # HTTP
  curl -s http://{http_address}/digits -d @examples/digits/seven.json

  # Python: a handle, from another program, over the gRPC port
  {python} -m examples.digits.ask_with_handle {grpc_address}

  # gRPC: a generated stub; and the service made from the type hints of Digits, with any gRPC tool, by reflection
  {python} -m examples.digits.ask_with_stub {grpc_address}
  {python.parent}/buf curl --protocol grpc --http2-prior-knowledge -d '{{}}' \\
      http://{grpc_address}/digits.v1.DigitsService/Accuracy

Ctrl-C ends it.
"""


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # before it serves; what has been started ends with this process
        sys.exit(130)
