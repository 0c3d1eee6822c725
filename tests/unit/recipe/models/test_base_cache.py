"""A base that is made on the spot is made once for all runs of the same settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.prepare import prepare
from data_prep.sample_dialogues import sample_corpora
from recipe.models import base_cache, tiny, weights
from recipe.run.run import Run
from recipe.steps import base
from tests.unit.composed import composed

SMALL = tiny.SIZES | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 8}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes the base of a run, with settings; its folder."""
    monkeypatch.setattr(tiny, "SIZES", SMALL)
    corpora = sample_corpora({"train": 60, "dev": 60, "test": 60}, 1)
    monkeypatch.setenv("SELF_EMO_CACHE", str(tmp_path / "cache"))
    small = ["dialogues=60", "steps=3", "batch=4"]

    def make(name: str, *settings: str) -> Path:
        given = [*(f"base.pretrain.{setting}" for setting in small), *settings]
        run = Run(composed("model=tiny", "experiment=smoke", *given), tmp_path / name)
        data = tmp_path / name / "data"
        data.mkdir(parents=True)
        prepare(corpora, data, ["meld"], "compact")
        run.do("base", base.make)
        return tmp_path / name / "base"

    return make


def test_the_second_run_takes_it(made, tmp_path, capsys):
    first = made("one", "run.seed=1")
    assert "taken from" not in capsys.readouterr().out
    second = made("two", "run.seed=2")
    assert f"the base is taken from {tmp_path / 'cache/bases'}" in capsys.readouterr().out
    assert weights.digest(first / "model") == weights.digest(second / "model")
    losses = [json.loads((folder / "pretraining.json").read_text()) for folder in (first, second)]
    assert losses[0] == losses[1] and len(losses[0]["losses"]) == 3


def test_another_setting_is_another_base(made, capsys):
    first, second = made("one"), made("two", "base.pretrain.seed=2")
    assert "taken from" not in capsys.readouterr().out
    assert weights.digest(first / "model") != weights.digest(second / "model")


def test_what_is_not_as_it_was_is_made_anew(made, tmp_path, capsys):
    first = made("one")
    (kept,) = (tmp_path / "cache/bases").iterdir()
    (kept / "model/model.safetensors").write_bytes(b"cut")
    second = made("two")
    assert "taken from" not in capsys.readouterr().out
    assert weights.digest(first / "model") == weights.digest(second / "model")
    assert base_cache.take(kept, tmp_path / "one/base")  # the cache is mended, too


def test_a_cache_that_cannot_be_written_costs_only_the_next_run_its_base(made, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file")
    assert (made("one") / "model/model.safetensors").exists()
    assert "note: the base is not kept for the next run: " in capsys.readouterr().out


def test_what_another_run_has_kept_meanwhile_stays(made, tmp_path):
    """It may be reading it; and half a list of checksums is no error of a run."""
    first = made("one")
    (kept,) = (tmp_path / "cache/bases").iterdir()
    before = (kept / "model/model.safetensors").stat().st_ino
    base_cache.keep(first, kept)
    assert (kept / "model/model.safetensors").stat().st_ino == before
    (kept / "digests.json").write_text('{"model/mo')
    assert not base_cache.take(kept, first)
    base_cache.keep(first, kept)
    assert base_cache.take(kept, first)
