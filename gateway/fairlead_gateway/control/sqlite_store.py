"""A store on the disk: SQLite, with a write-ahead log. Apart from the others: an owned instance starts without it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fairlead_gateway.control.store import Entry, StoreError

FILE = "state.db"
"""The name of the database in an instance's directory."""

_SCHEMA_VERSION = 1
_BUSY_S = 5.0


class SqliteStore:
    """Keeps entries in a file. What :meth:`write` has returned from is on the disk."""

    def __init__(self, path: Path) -> None:
        """Opens the file, and makes it if there is none. Raises StoreError."""
        self._path = path
        try:
            self._database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"the state in {path} cannot be opened: {error}; {_advice(error)}") from error
        try:
            path.chmod(0o600)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            (found,) = self._database.execute("PRAGMA user_version").fetchone()
            if found == 0:
                self._make()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreError(f"the state in {path} cannot be opened: {error}; {_advice(error)}") from error
        if found > _SCHEMA_VERSION:
            self.close()
            raise StoreError(f"the state in {path} was written by a later version of Fairlead; use that one")

    def __repr__(self) -> str:
        return f"<SqliteStore {self._path}>"

    def _make(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS entries "
            "(kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key))"
        )
        self._database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        self._database.execute("COMMIT")

    def read(self, kind: str) -> dict[str, bytes]:
        """See :class:`Store`."""
        try:
            rows = self._database.execute("SELECT key, value FROM entries WHERE kind = ? ORDER BY rowid", (kind,))
            return {str(key): bytes(value) for key, value in rows}
        except sqlite3.Error as error:
            raise StoreError(f"the state in {self._path} cannot be read: {error}; {_advice(error)}") from error

    def write(self, *entries: Entry) -> None:
        """See :class:`Store`."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for kind, key, value in entries:
                if value is None:
                    self._database.execute("DELETE FROM entries WHERE kind = ? AND key = ?", (kind, key))
                else:
                    self._database.execute(
                        "INSERT INTO entries VALUES (?, ?, ?) "
                        "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value",
                        (kind, key, value),
                    )
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise StoreError(f"the state in {self._path} cannot be written: {error}; {_advice(error)}") from error

    def close(self) -> None:
        """See :class:`Store`."""
        self._database.close()


def _advice(error: Exception) -> str:
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return "free some space on that disk and try again"
    if "malformed" in text or "not a database" in text:
        return "move it away to start with nothing deployed"
    return "make its directory writable for this user, or set FAIRLEAD_STATE_DIR"
