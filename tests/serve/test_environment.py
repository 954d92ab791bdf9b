import os
import stat

import pytest

from fairlead.serve import environment
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


def test_state_directory_defaults(tmp_path, monkeypatch):
    monkeypatch.delenv("FAIRLEAD_STATE_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert environment.state_directory() == tmp_path / "fairlead"


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
