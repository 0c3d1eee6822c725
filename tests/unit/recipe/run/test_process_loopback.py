"""A local stage is told to listen on this machine alone; what a user says, and a cluster, stay."""

from __future__ import annotations

from recipe.run.process import LOOPBACK, environment


def test_local_stages_listen_on_loopback_unless_told_otherwise(monkeypatch):
    for name in ("RAY_ADDRESS", *LOOPBACK):
        monkeypatch.delenv(name, raising=False)
    assert LOOPBACK.items() <= environment().items()
    monkeypatch.setenv("VLLM_HOST_IP", "10.0.0.1")
    assert environment()["VLLM_HOST_IP"] == "10.0.0.1"
    monkeypatch.delenv("VLLM_HOST_IP")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert not LOOPBACK.keys() & environment().keys()
