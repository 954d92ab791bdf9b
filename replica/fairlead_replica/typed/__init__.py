"""Typed protobuf services in a replica: messages to arguments, results to messages, errors to statuses."""
