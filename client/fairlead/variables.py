"""Environment variables that several of the programs know. The library's others are in fairlead.serve.environment."""

TOKEN = "FAIRLEAD_TOKEN"  # noqa: S105 - the name of the variable
"""What callers of a TCP port have to present, and what a program presents to the instance at ``FAIRLEAD_ADDRESS``."""
HTTP_KEY_PASSWORD = "FAIRLEAD_HTTP_TLS_KEY_PASSWORD"  # noqa: S105 - the name of the variable
"""From the library to gateway workers: the password of the HTTP port's private key. Not for users."""
TRACING = "FAIRLEAD_TRACING"
"""From a controller to gateway workers and replicas: how they trace, a TracingConfig in JSON. Not for users."""
