"""What passes is written down, and corpora and prompts that are missing are named."""

from __future__ import annotations

import shutil

import pytest
from omegaconf import OmegaConf

from data_prep.corpora.dialogue import DataError
from recipe.run import preflight
from recipe.run.preflight import check
from tests.unit.composed import composed
from tests.unit.recipe.run.refusals import refused
from tests.unit.samples import SAMPLES

pytestmark = pytest.mark.settings


def test_the_defaults_pass_and_leave_the_configuration(configured, tmp_path):
    config = configured("run.name=first")
    folder = check(config)
    assert folder == tmp_path / "runs/first"
    assert [p.name for p in folder.iterdir()] == ["config.yaml"]
    saved = OmegaConf.load(folder / "config.yaml")
    assert saved.run.name == "first" and saved.base.path == "builtin:tiny"


def test_a_run_without_a_name_gets_one(configured):
    config = configured()
    folder = check(config)
    assert folder.name == config.run.name and folder.name.startswith("tiny-20")


def test_corpora_are_fetched_when_all_else_is_right(configured, monkeypatch, tmp_path):
    fetched = []

    def fetch_corpora(config):
        fetched.append(config.raw_dir)
        shutil.copytree(SAMPLES, config.raw_dir)

    monkeypatch.setattr(preflight.corpora_fetch, "fetch_corpora", fetch_corpora)
    config = configured("flywheel.turns=0")
    config.download = str(tmp_path / "raw")
    config.flywheel.retrain_from = "nothing"
    refused(config, "flywheel.retrain_from")
    assert fetched == []
    config = configured("flywheel.turns=0")
    config.download = str(tmp_path / "raw")
    folder = check(config)
    assert fetched == [str(tmp_path / "raw")] == [OmegaConf.load(folder / "config.yaml").raw_dir]


@pytest.mark.parametrize("corpus", ["meld", "emorynlp", "iemocap", "dailydialog"])
def test_one_corpus_or_all(corpus):
    assert composed().corpora is None
    assert list(composed(f"corpus={corpus}").corpora) == [corpus]
    assert list(composed("corpora=[meld,iemocap]").corpora) == ["meld", "iemocap"]


def test_a_run_to_take_stages_from_is_there(configured, tmp_path):
    refused(
        configured(f"run.reuse=[{tmp_path / 'nope'}]"),
        f"run.reuse: {tmp_path / 'nope'} is no folder of a run",
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.yaml").touch()
    check(configured(f"run.reuse=[{tmp_path / 'other'}]", "run.name=a"))


def test_raw_dir_without_a_corpus(configured, tmp_path):
    (tmp_path / "raw").mkdir()
    refused(configured(f"raw_dir={tmp_path / 'raw'}"), "found no meld/", "Remedy", error=DataError)
    refused(configured(f"raw_dir={tmp_path / 'none'}"), "no such folder", error=DataError)
    refused(configured("corpora=[nobodys]"), "unknown corpus 'nobodys'", error=DataError)


def test_prompts_that_are_missing(configured, tmp_path):
    refused(configured(f"prompts.dir={tmp_path}"), "system.txt is missing", error=ValueError)
