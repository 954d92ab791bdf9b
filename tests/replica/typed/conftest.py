"""Replicas with typed services, ended after the test."""

from __future__ import annotations

import pytest

from tests.replica.typed.calling import TypedStage


@pytest.fixture
async def typed():
    stages = []

    def make(target, **options):
        stage = TypedStage(target, **options)
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        await stage.close()
