"""Longest prefix, whole segments."""

import pytest

from fairlead_gateway.edge.http_mounts import Mounts

MOUNTS = Mounts([("/a", "a"), ("/a/b", "ab"), ("/c/d/e", "cde")])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a", "a"),
        ("/a/", "a"),
        ("/a/x/y/z", "a"),
        ("/ab", None),
        ("/a/b", "ab"),
        ("/a/b/", "ab"),
        ("/a/bc", "a"),
        ("/a//b", "a"),
        ("/c", None),
        ("/c/d", None),
        ("/c/d/e/f", "cde"),
        ("/", None),
        ("", None),
        ("*", None),
        ("/" * 100_000, None),
    ],
)
def test_match(path, expected):
    mount = MOUNTS.match(path)
    assert (mount and mount.application) == expected


def test_root_takes_what_nobody_else_does():
    mounts = Mounts([("/", "root"), ("/a", "a")])
    assert mounts.match("/a/x").root_path == "/a"
    for path in ("/", "", "/b", "/ab", "*"):
        assert mounts.match(path) == ("/", "", "root")
    assert Mounts([("/", "root")]).match("/a/b/c").application == "root"


def test_nothing_is_mounted():
    assert Mounts().match("/") is None
    assert Mounts().as_routes() == {}
