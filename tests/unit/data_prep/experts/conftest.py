"""An endpoint that may misbehave, and a client that does not wait long for it."""

from __future__ import annotations

import pytest

from data_prep.experts import client as experts
from tests.unit.expert_server import SECRET, Server


@pytest.fixture
def server(quick):
    with Server() as server:
        yield server


@pytest.fixture
def quick(monkeypatch):
    """The pauses between retries are the client's; only their length is changed."""
    monkeypatch.setenv("EXPERT_API_KEY", SECRET)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)
    real = experts.asyncio.sleep

    async def short(seconds, *more):
        await real(min(seconds, 0.01), *more)

    monkeypatch.setattr(experts.asyncio, "sleep", short)
