"""Corpora that nobody has to fetch by hand; the network is a stand-in that copies made-up ones."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from recipe.run import corpora_fetch
from recipe.run.corpora_fetch import choose_folder, fetch_corpora


@pytest.fixture
def fetched(monkeypatch):
    """Targets that were fetched; each becomes an empty file."""
    done = []

    def fetch(remote, folder):
        (folder / remote.target).parent.mkdir(parents=True, exist_ok=True)
        (folder / remote.target).touch()
        done.append(remote.target)

    monkeypatch.setattr(corpora_fetch, "fetch", fetch)
    return done


def config(folder, **changes):
    return OmegaConf.create({"raw_dir": None, "download": str(folder), "corpora": None} | changes)


def test_a_folder_that_was_named_is_left_alone(tmp_path):
    named = config(tmp_path, raw_dir="/raw")
    assert not choose_folder(named) and named.raw_dir == "/raw"
    samples = config(tmp_path, download=None)
    assert not choose_folder(samples) and samples.raw_dir is None


def test_what_is_missing_is_fetched_once_and_said(tmp_path, fetched, capsys):
    run = config(tmp_path / "raw")
    (tmp_path / "raw/iemocap/Session1").mkdir(parents=True)
    assert choose_folder(run) and run.raw_dir == str(tmp_path / "raw")
    fetch_corpora(run)
    assert len(fetched) == 6 and {name.partition("/")[0] for name in fetched} == {"meld", "emorynlp"}
    assert capsys.readouterr().out.count("\n") == 1
    fetch_corpora(run)
    assert len(fetched) == 6 and capsys.readouterr().out == ""
    (tmp_path / "raw/meld/dev_sent_emo.csv").unlink()
    (tmp_path / "raw/meld/tmpa1b2c3d4").touch()  # a download that was killed
    fetch_corpora(run)
    assert fetched[6:] == ["meld/dev_sent_emo.csv"]


def test_other_files_of_a_corpus_and_other_corpora_are_left_alone(tmp_path, fetched):
    (tmp_path / "emorynlp").mkdir()
    (tmp_path / "emorynlp/emotion-detection-trn.json").touch()
    run = config(tmp_path)
    choose_folder(run)
    fetch_corpora(run)
    assert {name.partition("/")[0] for name in fetched} == {"meld"}
    fetched.clear()
    run.corpora, run.raw_dir = ["iemocap"], str(tmp_path / "other")
    fetch_corpora(run)
    assert fetched == []
