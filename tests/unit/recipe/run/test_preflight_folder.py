"""A run's folder: where it may stand, and who may write to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from recipe.run import preflight
from recipe.run.lock import LockedError, locked
from recipe.run.preflight import PreflightError, check
from tests.unit.recipe.run.refusals import refused

pytestmark = pytest.mark.settings


def test_a_run_that_exists(configured):
    check(configured("run.name=first"))
    refused(configured("run.name=first"), "exists", "run.resume=true", "NAME=")


def test_a_run_that_was_killed_before_its_settings_were_written(configured):
    folder = Path(configured().run.root) / "first"
    for again in ((), ("run.resume=true",)):
        folder.mkdir(parents=True)
        (folder / "lock").write_text("{}")
        (folder / "config.yaml.123.part").write_text("a: [")
        assert check(configured("run.name=first", *again)) == folder
        assert [p.name for p in folder.iterdir()] == ["config.yaml"]
        shutil.rmtree(folder)


def test_settings_are_never_half_written(configured, monkeypatch):
    """A kill, or a full disk, while a resumed run writes them."""
    folder = check(configured("run.name=first"))
    before = (folder / "config.yaml").read_text()

    def full(part, target):
        raise OSError(28, "No space left on device", str(part))

    monkeypatch.setattr("data_prep.files.commit", full)
    with pytest.raises(OSError):
        check(configured("run.name=first", "run.resume=true", "flywheel.iterations=3"))
    assert (folder / "config.yaml").read_text() == before


def test_two_starts_of_one_name(configured):
    first, second = configured("run.name=first"), configured("run.name=first")
    assert preflight._run_folder(second) == preflight._run_folder(first)  # both have seen that it is free
    folder = check(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "_run_folder", lambda _: folder)
        with pytest.raises(PreflightError, match="has just been started; give another NAME"):
            check(second)


def test_a_run_that_another_process_works_on(configured):
    folder = check(configured("run.name=first"))
    with locked(folder), pytest.raises(LockedError, match=f"process {os.getpid()} on"):
        check(configured("run.name=first", "run.resume=true"))
    with locked(folder):
        preflight.discard_empty(folder)  # of a start that was refused
    assert folder.exists()


def test_a_run_that_was_moved(configured, tmp_path):
    folder = check(configured("run.name=first"))
    folder.parent.rename(tmp_path / "elsewhere")
    config = configured("run.name=first", "run.resume=true")
    config.run.root = str(tmp_path / "elsewhere")
    assert check(config) == tmp_path / "elsewhere/first"
    (tmp_path / "elsewhere/first").rename(tmp_path / "elsewhere/second")
    config = configured("run.name=second", "run.resume=true")
    config.run.root = str(tmp_path / "elsewhere")
    assert check(config) == tmp_path / "elsewhere/second"


def test_a_root_that_cannot_be_written_to(configured, monkeypatch, capsys):
    from recipe import main

    def mkdir(self, *_, **__):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(SystemExit):
        main._train.__wrapped__(configured("run.name=first"))
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "runs/first: Read-only file system; make it writable, or name a folder that is" in said


def test_a_run_that_failed_in_its_first_step_leaves_nothing(configured):
    folder = check(configured("run.name=first"))
    (folder / "data.work").mkdir()
    (folder / "eval").mkdir()
    preflight.discard_empty(folder)
    assert folder.exists()  # it has got further
    (folder / "eval").rmdir()
    preflight.discard_empty(folder)
    assert not folder.exists()
    preflight.discard_empty(None)


@pytest.mark.parametrize(
    "name", ["'../x'", "a/b", "/tmp/x", ".hidden", "'..'", "'a\tb'", "'a\x1b[2J'", "x" * 201]
)
def test_names_that_are_no_folder_names(configured, name):
    refused(configured(f"run.name={name}"), "run.name", "plain folder name")
