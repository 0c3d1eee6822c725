"""What the tests of the experts' client ask `expert_server.Server` for, and an error that it answers with."""

from __future__ import annotations

from data_prep.experts.client import Endpoint, Request, Settings
from tests.unit.expert_server import Server


def settings(server: Server, **changes) -> Settings:
    endpoint = Endpoint("one", server.url, "m", "EXPERT_API_KEY", prompt_price=2.0, answer_price=4.0)
    return Settings(**{"endpoints": (endpoint,), "timeout": 0.4, "retries": 3, "max_tokens": 100} | changes)


def requests(count: int, check=lambda text: None) -> list[Request]:
    return [Request(f"r{i}", [{"role": "user", "content": f"question {i}"}], check) for i in range(count)]


def error(status: int, words: object) -> tuple[int, dict]:
    return status, {"error": {"message": words}}
