"""Starts the standing instance without an HTTP port of its own, deploys two models to it, and exits: they stay.

``generator`` is deployed by today's API, ``my_endpoint`` by the classic one. A web server needs only one of them.
"""

from __future__ import annotations

from models import TEXT, Generator, model

from fairlead import serve

if __name__ == "__main__":
    serve.start(detached=True, http_options={"location": "NoServer"})
    serve.run(Generator.bind(TEXT), name="generator", route_prefix=None)
    if "my_endpoint" not in serve.list_endpoints():
        serve.create_backend("my_model", model, config={"num_replicas": 2})
        serve.create_endpoint("my_endpoint", backend="my_model")  # without a route: for handles only
    print("deployed")
