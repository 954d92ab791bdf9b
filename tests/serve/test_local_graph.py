"""Applications to objects of this process: what constructors get."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest

from fairlead import serve
from fairlead.serve.handle import DeploymentHandle
from fairlead.serve.local_graph import LocalGraph


@serve.deployment
class Part:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...


@dataclass
class Box:
    content: Any


def arguments(*args: Any, **kwargs: Any) -> tuple[LocalGraph, tuple[Any, ...], dict[str, Any]]:
    graph = LocalGraph("app")
    graph.add(Part.options(name="whole").bind(*args, **kwargs))
    return graph, graph.deployments[-1].args, graph.deployments[-1].kwargs


def test_arguments_without_deployments_are_the_very_objects() -> None:
    lock, notes, box = threading.Lock(), [1, (2, {"three": 3})], Box(4)
    _, args, kwargs = arguments(lock, notes, box=box)
    assert args[0] is lock
    assert args[1] is notes
    assert kwargs["box"] is box


def test_handles_stand_where_deployments_stood() -> None:
    part = Part.bind()
    lock = threading.Lock()
    graph, args, kwargs = arguments(part, [lock, {"key": part}], (part,), box=Box(part))
    assert [each.name for each in graph.deployments] == ["Part", "whole"]
    handles = [args[0], args[1][1]["key"], args[2][0], kwargs["box"].content]
    assert all(isinstance(handle, DeploymentHandle) for handle in handles)
    assert {(handle.deployment_name, handle.app_name) for handle in handles} == {("Part", "app")}
    assert args[1][0] is lock


def test_two_deployments_of_one_name_get_two_names(caplog: pytest.LogCaptureFixture) -> None:
    graph, args, _ = arguments(Part.bind(1), Part.bind(2))
    assert [handle.deployment_name for handle in args] == ["Part", "Part_1"]
    assert [each.args for each in graph.deployments[:2]] == [(1,), (2,)]
    assert "Renaming" in caplog.text


def test_what_holds_a_deployment_and_cannot_be_copied_is_refused() -> None:
    with pytest.raises(TypeError, match="pickle"):
        arguments(Box((Part.bind(), threading.Lock())))
