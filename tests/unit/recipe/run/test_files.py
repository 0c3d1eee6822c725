"""The folder that a run's name means."""

from __future__ import annotations

import pytest

from recipe.run.files import run_folder


def test_a_folder_of_the_same_name_does_not_hide_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("read", "runs/read", "elsewhere/mine"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(ValueError, match="read: no run"):
        run_folder("read")
    for folder in ("runs/read", "elsewhere/mine"):
        for name in ("state.json", "config.yaml"):
            (tmp_path / folder / name).touch()
    assert str(run_folder("read")) == "runs/read"
    assert str(run_folder("elsewhere/mine")) == "elsewhere/mine"
    assert run_folder(str(tmp_path / "elsewhere/mine")) == tmp_path / "elsewhere/mine"
