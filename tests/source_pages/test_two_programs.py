"""Two programs that change the endpoints and backends of one instance at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fairlead as ray
from fairlead import serve
from fairlead.serve import api
from fairlead.serve.classic import endpoints, registry
from tests.source_pages.backends import Named, hello
from tests.source_pages.conftest import Classic


@pytest.fixture(scope="module", autouse=True)
def backend(classic: Classic) -> None:
    serve.create_backend("hello", hello)
    serve.create_backend("other", Named, "other")


@pytest.fixture(autouse=True)
def no_endpoints() -> Iterator[None]:
    yield
    for name in serve.list_endpoints():
        serve.delete_endpoint(name)


@pytest.fixture
def after_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], object]], None]:
    """Another program is faster: its change comes after the next reading of all endpoints, or of all backends."""

    def change_after(what: str, change: Callable[[], object]) -> None:
        read = getattr(registry, what)

        def reading(instance: Any) -> Any:
            monkeypatch.undo()
            found = read(instance)
            change()
            return found

        monkeypatch.setattr(registry, what, reading)

    return change_after


def another(change: Callable[..., None], *args: Any, **options: Any) -> Callable[[], None]:
    """A call of another program, which does not wait for the threads of this one."""
    return lambda: change.__wrapped__(*args, **options)  # type: ignore[attr-defined]


def test_both_create_an_endpoint(after_reading: Any, classic: Classic) -> None:
    after_reading("endpoints", another(endpoints.create_endpoint, "a", backend="hello", route="/a"))
    serve.create_endpoint("b", backend="other", route="/b")
    assert list(serve.list_endpoints()) == ["a", "b"]
    assert (classic.get("/a").text, classic.get("/b").text) == ("hello", "other")


def test_both_create_the_same_endpoint(after_reading: Any) -> None:
    after_reading("endpoints", another(endpoints.create_endpoint, "a", backend="hello"))
    with pytest.raises(ValueError, match="a"):
        serve.create_endpoint("a", backend="other")
    assert ray.get(serve.get_handle("a").remote()) == "hello"


def test_one_sets_traffic_while_another_does(after_reading: Any) -> None:
    for name in ("a", "b"):
        serve.create_endpoint(name, backend="hello")
    after_reading("endpoints", another(endpoints.shadow_traffic, "b", "other", 0.5))
    serve.set_traffic("a", {"other": 1.0})
    listed = serve.list_endpoints()
    assert (listed["a"]["traffic"], listed["b"]["shadows"]) == ({"other": 1.0}, {"other": 0.5})
    assert ray.get(serve.get_handle("a").remote()) == "other"
    after_reading("endpoints", another(endpoints.set_traffic, "b", {"other": 1.0}))
    serve.shadow_traffic("a", "hello", 0.25)
    listed = serve.list_endpoints()
    assert (listed["a"]["shadows"], listed["b"]["traffic"]) == ({"hello": 0.25}, {"other": 1.0})


def test_one_deletes_the_last_endpoint_while_another_creates_one(after_reading: Any) -> None:
    serve.create_endpoint("a", backend="hello")
    after_reading("endpoints", another(endpoints.create_endpoint, "b", backend="other"))
    serve.delete_endpoint("a")
    assert list(serve.list_endpoints()) == ["b"]
    after_reading("endpoints", another(endpoints.delete_endpoint, "b"))
    serve.create_endpoint("c", backend="hello")
    assert list(serve.list_endpoints()) == ["c"]
    (application,) = [one for one in api.instance_status().applications if one.traffic]
    assert [policy.name for policy in application.traffic] == ["c"]
    assert ray.get(serve.get_handle("c").remote()) == "hello"


def test_both_create_the_same_backend(after_reading: Any) -> None:
    after_reading("backends", lambda: serve.create_backend("same", Named, "first"))
    with pytest.raises(ValueError, match="'same' is registered already"):
        serve.create_backend("same", Named, "second")
    serve.create_endpoint("a", backend="same")
    assert ray.get(serve.get_handle("a").remote()) == "first"


PROGRAM = """
from fairlead import serve
for number in range(5):
    serve.create_endpoint(f"theirs-{number}", backend="hello")
serve.set_traffic("theirs-0", {"other": 1.0})
serve.delete_endpoint("theirs-1")
"""


def test_programs_that_change_endpoints_all_the_time(classic: Classic) -> None:
    environment = {**os.environ, "FAIRLEAD_ADDRESS": api.controller_address()}
    mine = []
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment) as others:
        while others.poll() is None:
            serve.create_endpoint(f"mine-{len(mine)}", backend="hello")
            mine.append(f"mine-{len(mine)}")
            serve.set_traffic(mine[0], {"hello": 1.0})
    assert others.returncode == 0
    listed = serve.list_endpoints()
    assert set(listed) == {*mine, "theirs-0", "theirs-2", "theirs-3", "theirs-4"}
    assert listed["theirs-0"]["traffic"] == {"other": 1.0}
