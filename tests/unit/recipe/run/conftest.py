"""A run as `recipe.run.preflight` is asked about it, on a machine with room."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from recipe.models import tiny
from recipe.run import preflight
from recipe.run.preflight import GIB
from tests.unit.composed import composed
from tests.unit.recipe.run.refusals import SMALL


@pytest.fixture
def machine(monkeypatch):
    """A machine with room, on which no model may be loaded, made or asked for on the hub."""
    import huggingface_hub.constants
    import transformers

    def refuse(*_, **__):
        raise AssertionError("a model was loaded before the check was through")

    for owner in (transformers.PreTrainedModel, transformers.AutoModelForCausalLM):
        monkeypatch.setattr(owner, "from_pretrained", refuse)
    monkeypatch.setattr(tiny, "make_tiny", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    state = SimpleNamespace(memory=64 * GIB, disk=500 * GIB)
    monkeypatch.setattr(preflight.psutil, "virtual_memory", lambda: SimpleNamespace(available=state.memory))
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: SimpleNamespace(free=state.disk))
    return state


@pytest.fixture
def configured(machine, tmp_path):
    """The configuration with overrides, its runs below ``tmp_path``; ``model`` is what MODEL would be."""

    def make(*overrides: str, model: object = None):
        config = composed(*overrides, *(["model=any", "base.name=mine", "base.path=x"] if model else []))
        config.run.root = str(tmp_path / "runs")
        if model:
            config.base.path = str(model)
        return config

    return make


@pytest.fixture
def model_folder(tokenizer_folder):
    """Makes a folder with a model's configuration and a tokenizer, without weights."""

    def make(path, settings=SMALL):
        shutil.copytree(tokenizer_folder, path)
        (path / "config.json").write_text(json.dumps(settings))
        return path

    return make
