"""Applications for tests of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from fairlead import serve
from fairlead.serve.config import AutoscalingContext


@serve.deployment
class Counter:
    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.greeting = ""

    def reconfigure(self, config: dict[str, str]) -> None:
        self.greeting = config["greeting"]

    def __call__(self, x: int = 0, y: int = 0) -> int:
        return x + y + self.size

    def about(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "greeting": self.greeting, "flavour": os.environ.get("FLAVOUR")}

    def count(self, to: int) -> Iterator[int]:
        yield from range(to)

    def fail(self) -> None:
        raise ValueError("in two\nlines")

    def say(self, text: str) -> None:
        print(text)


@serve.deployment
class Broken:
    def __init__(self) -> None:
        raise ValueError("it was never to work")


app = Counter.bind()
scaled = Counter.options(
    autoscaling_config={"max_replicas": 7}, user_config={"greeting": "hi"}, max_ongoing_requests=11
).bind()
unrouted = Counter.options(request_router_config={"request_router_class": "no:Router"}).bind()
broken = Broken.options(max_constructor_retry_count=1).bind()


@serve.deployment
class Front:
    def __init__(self, counter: Any) -> None:
        self.counter = counter


def shared_policy(contexts: dict[Any, AutoscalingContext], *, each: int) -> tuple[dict[Any, int], dict[str, Any]]:
    """As many replicas of each as there are deployments that scale, and some more."""
    return {deployment: len(contexts) + each for deployment in contexts}, {}


_QUICK = {"min_replicas": 1, "max_replicas": 4, "upscale_delay_s": 0}
pair = Front.options(autoscaling_config=_QUICK).bind(Counter.options(autoscaling_config=_QUICK).bind())


def build(arguments: dict[str, Any]) -> Any:
    return Counter.bind(arguments["size"])
