import os
import stat
import tempfile
from pathlib import Path

import pytest

from fairlead.serve import environment
from fairlead.wire.credentials import NONE, Credentials
from fairlead.wire.errors import FairleadError


def test_state_directory_is_made_owner_only(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path / "s"))
    path = environment.state_directory()
    assert path == tmp_path / "s"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_state_directory_is_tightened(tmp_path, monkeypatch):
    (tmp_path / "s").mkdir(mode=0o755)
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path / "s"))
    assert stat.S_IMODE(environment.state_directory().stat().st_mode) == 0o700


def test_state_directory_defaults(monkeypatch):
    monkeypatch.delenv("FAIRLEAD_STATE_DIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # short, as paths of sockets have to be
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        assert environment.state_directory() == Path(name) / "fairlead"


def test_a_link_in_its_place_is_refused(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "s").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path / "s"))
    with pytest.raises(FairleadError, match="not a directory"):
        environment.state_directory()


def test_a_directory_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path / "s"))
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(FairleadError, match=f"belongs to user {uid}"):
        environment.state_directory()


def test_a_directory_of_all_users_is_refused(monkeypatch):
    """It is not made this user's own: nobody else could use it any more."""
    before = Path("/tmp").stat().st_mode
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", "/tmp/")
    with pytest.raises(FairleadError, match=r"/tmp is for all users; set FAIRLEAD_STATE_DIR"):
        environment.state_directory()
    assert Path("/tmp").stat().st_mode == before


@pytest.mark.parametrize(
    ("path", "message"),
    [("/proc/no", "cannot be made: No such file or directory; set FAIRLEAD_STATE_DIR"), ("/etc/passwd", "not a dir")],
)
def test_one_that_cannot_be_made_is_said_with_what_to_do(path, message, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", path)
    with pytest.raises(FairleadError, match=f"the state directory {path} .*{message}"):
        environment.state_directory()


def test_a_path_too_long_for_sockets_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_STATE_DIR", str(tmp_path / ("s" * 100)))
    with pytest.raises(FairleadError, match="too long"):
        environment.state_directory()


def test_address_and_token_are_read_when_asked(monkeypatch):
    monkeypatch.delenv("FAIRLEAD_ADDRESS", raising=False)
    assert environment.address() is None
    monkeypatch.setenv("FAIRLEAD_ADDRESS", "unix:/x")
    monkeypatch.setenv("FAIRLEAD_TOKEN", "t")
    assert (environment.address(), environment.token()) == ("unix:/x", "t")


@pytest.mark.parametrize("value", ["unix:/a/b.sock", "localhost:9000", "10.0.0.1:1", "[::1]:1", "https://host:443"])
def test_addresses(value, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_ADDRESS", value)
    assert environment.address() == value
    monkeypatch.setenv("FAIRLEAD_ADDRESS", "")
    assert environment.address() is None


@pytest.mark.parametrize(
    "value", ["http://host:9000", "host", "https://host", "https://host:1/path", "/a/b.sock", "tcp://h:1"]
)
def test_what_is_no_address(value, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_ADDRESS", value)
    with pytest.raises(FairleadError, match=r"none of unix:/path .* host:port .* https://host:port"):
        environment.address()


def test_tokens(monkeypatch):
    for value, expected in (("", None), (" \n", None), ("s3cret=\n", "s3cret=")):
        monkeypatch.setenv("FAIRLEAD_TOKEN", value)
        assert environment.token() == expected
    for value in ("two words", "ümlaut", "a\nb"):
        monkeypatch.setenv("FAIRLEAD_TOKEN", value)
        with pytest.raises(FairleadError, match="ASCII") as caught:
            environment.token()
        assert value not in str(caught.value)


def test_credentials(monkeypatch):
    for name in ("TOKEN", "TLS_CA", "TLS_CERT", "TLS_KEY"):
        monkeypatch.delenv(f"FAIRLEAD_{name}", raising=False)
    assert environment.credentials() == NONE
    for name in ("TOKEN", "TLS_CA", "TLS_CERT", "TLS_KEY"):
        monkeypatch.setenv(f"FAIRLEAD_{name}", name)
    expected = Credentials(token="TOKEN", ca_file="TLS_CA", certificate_file="TLS_CERT", key_file="TLS_KEY")
    assert environment.credentials() == expected
