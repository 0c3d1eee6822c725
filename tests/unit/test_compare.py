"""Several runs as one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipe import compare
from recipe.measures import MEASURES


def make_run(root: Path, name: str, rewards: dict[str, float], corpora=("meld", "avg")) -> Path:
    folder = root / name
    for stage, reward in rewards.items():
        (folder / f"eval/{stage}").mkdir(parents=True)
        table = {corpus: {**dict.fromkeys(MEASURES, 0.5), "reward": reward} for corpus in corpora}
        (folder / f"eval/{stage}/summary.json").write_text(json.dumps(table))
    (folder / "config.yaml").write_text("run: {seed: 7}\n")
    steps = {"data": {"seconds": 30.0}, "iter_1/rl": {"seconds": 90.0}}
    (folder / "state.json").write_text(json.dumps({"steps": steps}))
    return folder


def test_mean_and_deviation_of_the_checkpoints_that_all_runs_scored(tmp_path, monkeypatch, capsys):
    runs = [make_run(tmp_path, "a", {"cold": 0.2, "rl": 0.5}), make_run(tmp_path, "b", {"cold": 0.4})]
    monkeypatch.setattr("sys.argv", ["compare", *map(str, runs)])
    assert compare.main() == 0
    page = capsys.readouterr().out
    (line,) = [line for line in page.splitlines() if line.startswith("after cold start")]
    assert "0.300 ± 0.141" in line and "0.500 ± 0.000" in line
    assert "after RL" not in page and "a: seed 7, 2.0 min" in page


def test_what_cannot_be_compared(tmp_path, monkeypatch, capsys):
    one, other = make_run(tmp_path, "a", {"cold": 0.2}), make_run(tmp_path, "b", {"rl": 0.4})
    with pytest.raises(ValueError, match="no checkpoint that all of them scored"):
        compare.render([one, other])
    with pytest.raises(ValueError, match="nowhere: no run"):
        compare.render([one, tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="different corpora"):
        compare.render([one, make_run(tmp_path, "c", {"cold": 0.2}, ("iemocap", "avg"))])
    monkeypatch.setattr("sys.argv", ["compare", "a"])
    assert compare.main() == 1 and "at least two runs" in capsys.readouterr().err
