"""``BackendConfig``: what it refuses, and how many queries it says when."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.serve.backend_config import BackendConfig


@pytest.mark.parametrize(
    ("given", "queries"),
    [
        ({}, 8),
        ({"num_replicas": 3}, 8),
        ({"max_batch_size": None}, 8),
        ({"max_batch_size": 5}, 10),
        ({"max_batch_size": 5, "batch_wait_timeout": 0.5}, 10),
        ({"batch_wait_timeout": 0.5}, None),
        ({"max_concurrent_queries": None}, 8),
        ({"max_concurrent_queries": None, "max_batch_size": 5}, 10),
        ({"max_concurrent_queries": 3, "max_batch_size": 5}, 3),
    ],
    ids=str,
)
def test_queries_are_known_at_once(given: dict[str, Any], queries: int | None) -> None:
    assert BackendConfig(**given).max_concurrent_queries == queries
    assert BackendConfig.of(given).max_concurrent_queries == queries


@pytest.mark.parametrize(
    ("given", "queries"),
    [
        (None, 100),
        ({}, 100),
        ({"max_batch_size": 5}, 100),
        ({"batch_wait_timeout": 0.5}, 100),
        ({"max_batch_size": 5, "batch_wait_timeout": 0.5}, 10),
        ({"max_concurrent_queries": None}, 100),
        ({"max_concurrent_queries": 3}, 3),
        (BackendConfig(), 8),  # was made without knowing for what
        (BackendConfig(max_batch_size=5), 10),
    ],
    ids=str,
)
def test_an_asynchronous_backend_takes_more(given: Any, queries: int) -> None:
    config = BackendConfig.of(given, asynchronous=True)
    assert config.max_concurrent_queries == config.concurrency == queries


def test_without_a_number_it_is_eight() -> None:
    assert BackendConfig(batch_wait_timeout=1).concurrency == 8


def test_what_is_set_later_leaves_the_number_alone() -> None:
    config = BackendConfig()
    config.max_batch_size = 20
    assert config.max_concurrent_queries == 8
    config.max_concurrent_queries = None
    assert config.max_concurrent_queries == 40


def test_an_update_changes_what_was_set() -> None:
    before = BackendConfig.of({"num_replicas": 2}, asynchronous=True)
    after = before.updated(BackendConfig(max_batch_size=4))
    assert after.values() == {**before.values(), "max_batch_size": 4}
    assert after.max_concurrent_queries == 100
    assert after.given() == {"num_replicas": 2, "max_batch_size": 4}
    assert before.updated(BackendConfig(max_concurrent_queries=None)).max_concurrent_queries == 8
    assert before.given() == {"num_replicas": 2}


def test_a_copy_is_one() -> None:
    config = BackendConfig(max_batch_size=5)
    copy = BackendConfig.of(config)
    assert copy == config
    copy.num_replicas = 2
    assert (config.num_replicas, config.given()) == (1, {"max_batch_size": 5})
    assert copy != config


def test_it_is_kept_with_what_was_set() -> None:
    config = BackendConfig.of({"num_replicas": 2}, asynchronous=True)
    kept = BackendConfig.restored(config.given(), config.max_concurrent_queries)
    assert (kept, kept.given()) == (config, config.given())


@pytest.mark.parametrize(
    "given",
    [
        {"num_replicas": 0},
        {"num_replicas": "hello"},
        {"num_replicas": None},
        {"max_batch_size": 0},
        {"max_concurrent_queries": -1},
        {"batch_wait_timeout": -0.1},
        {"experimental_graceful_shutdown_timeout_s": "soon"},
        {"num_replica": 1},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_when_it_is_set(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(ValueError, match=name):
        BackendConfig(**given)
    with pytest.raises(ValueError, match=name):
        setattr(BackendConfig(), name, given[name])
