"""Where the instance that this driver started listens."""

from __future__ import annotations


def grpc_address() -> str:
    raise NotImplementedError


def http_address() -> str:
    raise NotImplementedError
