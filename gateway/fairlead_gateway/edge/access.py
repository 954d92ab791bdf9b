"""Who may call through a listener, and how far they are trusted: decided here for every gRPC listener."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from fairlead.wire.trust import Trust
from fairlead_gateway.edge.binding import TcpListener


class Access:
    """The access rule of one listener.

    ``trust``: what a peer that is let in is trusted with. ``token``: what it must present as a bearer token to be let
    in; None: nothing.
    """

    __slots__ = ("_expected", "trust")

    def __init__(self, trust: Trust, token: str | None = None) -> None:
        self.trust = trust
        self._expected = None if token is None else f"Bearer {token}".encode()

    @classmethod
    def owner(cls) -> Access:
        """The rule for a Unix socket in an owner-only directory."""
        return cls(Trust.OWNER)

    @classmethod
    def of(cls, listener: TcpListener) -> Access:
        """The rule for a TCP listener.

        A token is asked for wherever one is set. It counts as authentication only over TLS, where nobody can have
        overheard it.
        """
        proven = listener.tls is not None and listener.authenticates
        return cls(Trust.AUTHENTICATED if proven else Trust.UNTRUSTED, listener.token)

    @property
    def open(self) -> bool:
        """Whether everybody who can connect is let in."""
        return self._expected is None

    def admits_authorization(self, value: bytes | str | None) -> bool:
        """Whether an ``authorization`` header with this value (None: no such header) lets its sender in."""
        if self._expected is None:
            return True
        if value is None:
            return False
        given = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        return hmac.compare_digest(given, self._expected)

    def admits(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
        """Whether a gRPC call with this metadata is let in."""
        if self._expected is None:
            return True
        return any(key == "authorization" and self.admits_authorization(value) for key, value in metadata or ())
