"""Protobuf services derived from the type hints of deployments."""
