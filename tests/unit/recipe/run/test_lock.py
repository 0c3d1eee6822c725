"""One process at a time works on a run, and nothing of a killed one is there when it goes on."""

from __future__ import annotations

import fcntl
import json
import os

import pytest

from recipe.run import lock
from recipe.run.lock import LockedError, locked


def test_who_opened_it_before_it_was_given_back_has_the_new_one(tmp_path, monkeypatch):
    """Else two would hold locks, one of them on a file that is gone."""
    flock, path = fcntl.flock, tmp_path / lock.NAME

    def given_back_meanwhile(file, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", given_back_meanwhile)
    with locked(tmp_path):
        assert json.loads(path.read_text())["process"] == os.getpid()
        with pytest.raises(LockedError), locked(tmp_path):
            pytest.fail("two have it")


def test_a_process_of_another_host_s_number_is_no_owner(tmp_path):
    # A file from a machine that is gone, with the number of a process that lives here.
    owner = {"process": os.getppid(), "host": "gone", "since": "2026-01-01 00:00:00"}
    (tmp_path / lock.NAME).write_text(json.dumps(owner))
    with locked(tmp_path):
        pass


def test_half_written_files_are_removed_by_who_has_it(tmp_path):
    (tmp_path / "state.json.1.part").write_text("{")
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [lock.NAME]
