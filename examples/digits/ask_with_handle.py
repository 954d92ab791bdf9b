"""Calls the running example through a Python handle, from a program of its own.

``python -m examples.digits.ask_with_handle [HOST:PORT]``. Over a plain TCP port arguments and results travel as JSON:
pickles are for the owner's Unix socket and for authenticated connections.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

SEVEN = json.loads((Path(__file__).parent / "seven.json").read_text())["image"]


def main(address: str) -> None:
    os.environ["FAIRLEAD_ADDRESS"] = address
    from fairlead import serve

    digits = serve.get_app_handle("digits").options(request_serialization="orjson", response_serialization="orjson")
    print("one image: ", digits.classify.remote(SEVEN).result(timeout_s=10))
    for answer in digits.options(stream=True).classify_all.remote([SEVEN] * 3):
        print("streamed:  ", answer)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000")
