"""Both stores keep the same contract; the one on disk keeps it over the end of its process too."""

import sqlite3

import pytest

from fairlead_gateway.control.sqlite_store import FILE, SqliteStore
from fairlead_gateway.control.store import Entry, MemoryStore, StoreError


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / FILE)
    yield store
    store.close()


def test_what_is_written_is_read(store):
    store.write(Entry("colour", "b", b"blue"), Entry("colour", "a", b"amber"), Entry("taste", "a", b"acid"))
    assert store.read("colour") == {"b": b"blue", "a": b"amber"}
    store.write(Entry("colour", "b", b"brown"), Entry("colour", "a", None), Entry("colour", "never there", None))
    assert store.read("colour") == {"b": b"brown"}
    assert store.read("taste") == {"a": b"acid"}
    assert store.read("nothing") == {}


def test_it_is_there_after_a_process_that_did_not_close_it(tmp_path):
    before = SqliteStore(tmp_path / FILE)
    before.write(Entry("application", "a", bytes(range(256))))
    after = SqliteStore(tmp_path / FILE)
    assert after.read("application") == {"a": bytes(range(256))}
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    before.close()
    after.close()


def test_a_full_disk_changes_nothing(tmp_path):
    store = SqliteStore(tmp_path / FILE)
    store.write(Entry("application", "a", b"first"))
    store._database.execute("PRAGMA max_page_count = 8")
    with pytest.raises(StoreError, match=r"state\.db cannot be written: .*full; free some space"):
        store.write(Entry("application", "a", b"second"), Entry("application", "b", bytes(1_000_000)))
    assert store.read("application") == {"a": b"first"}
    store.write(Entry("application", "a", b"third"))
    assert store.read("application") == {"a": b"third"}
    store.close()


def test_a_directory_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(StoreError, match=r"cannot be opened: unable to open .*; make its directory writable") as caught:
        SqliteStore(tmp_path / "nowhere" / FILE)
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b"this is not a database, but it is long enough to be looked at" * 40)
    with pytest.raises(StoreError, match="move it away"):
        SqliteStore(tmp_path / FILE)


def test_a_later_version_of_the_file_is_refused(tmp_path):
    SqliteStore(tmp_path / FILE).close()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="later version"):
        SqliteStore(tmp_path / FILE)
