"""The folder that a run's name means."""

from __future__ import annotations

import pytest

from recipe.evaluation import rl_stages
from recipe.pages import lineage
from recipe.run import files
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


def test_a_copy_beside_an_iteration_is_none_of_a_run(tmp_path):
    for name in ("iter_10", "iter_2", "iter_2.bak", "iter_2 (copy)", "iter_02", "iter_x", "iter_"):
        (tmp_path / name / "rl").mkdir(parents=True)
        (tmp_path / name / "rl/metrics.jsonl").write_text('{"step": 1, "data": {"a": 1}}\n')
    own = [2, 10]
    assert [k for k, _ in files.in_iterations(tmp_path, "rl")] == own
    assert list(files.read_metrics(tmp_path)) == [f"iter_{k}/rl" for k in own]
    assert rl_stages.read_rl_stages(tmp_path)[-1].name == "iter_10/rl"
    assert lineage._iterations(tmp_path) == own
