"""Typed protobuf services at the gateway's doors: which there are, and calls of their methods by gRPC and HTTP."""
