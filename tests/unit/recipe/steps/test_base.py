"""A base model of the hub: here before the stages, with its revision, and where a cluster can see it."""

from __future__ import annotations

import json

import pytest

from recipe.models import hub
from recipe.models.hub import Fetched
from recipe.run.run import Run
from recipe.steps import base
from tests.unit.composed import composed


@pytest.mark.parametrize("address", [None, "head:6379"])
def test_a_model_of_the_hub_is_fetched_and_its_revision_kept(tmp_path, monkeypatch, address):
    asked = []

    def fetch(repo, target):
        asked.append((repo, target))
        folder = target or tmp_path / "cache"
        folder.mkdir(parents=True)
        return Fetched(folder, "abc123")

    monkeypatch.setattr(hub, "fetch", fetch)
    monkeypatch.setattr(hub, "check", lambda repo: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    run = Run(composed("model=any", "base.name=m", "base.path=owner/m"), tmp_path / "run")
    run.do("base", base.make)
    target = tmp_path / "run/base.files" if address else None
    assert asked == [("owner/m", target)] and run.base == (target or tmp_path / "cache")
    found = json.loads((tmp_path / "run/base/base.json").read_text())
    assert found["path"] == ("../base.files" if address else str(tmp_path / "cache"))  # a run may be moved
    assert (found["hub_id"], found["revision"]) == ("owner/m", "abc123")
