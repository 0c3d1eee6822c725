"""A step is done once, on sound ground, and its time is kept whatever happens."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipe.run import manifest
from recipe.run import run as run_module
from recipe.run.files import base_of, read_state
from recipe.run.manifest import IntegrityError
from recipe.run.run import Run


@pytest.fixture
def run(tmp_path):
    settings = {"prompts": {"dir": "compact"}, "expert": {"kind": "offline"}, "run": {"retries": 0}}
    return lambda: Run(OmegaConf.create(settings), tmp_path)


def leave(name: str, text: str = "a"):
    return lambda run, work: (work / name).write_text(text) and None


def test_a_step_is_not_built_on_what_has_changed(run, tmp_path):
    run().do("data", leave("train.parquet.txt"))
    made = run()
    made.do("base", leave("base.json"), ("data",))
    (tmp_path / "data/train.parquet.txt").write_text("b")
    made.do("iter_0/buffer", leave("rows"), ("data",))  # this process has seen it sound
    with pytest.raises(
        IntegrityError, match=r"data/train.parquet.txt: its content has changed .*; restore it"
    ):
        run().do("iter_0/sft", lambda *_: pytest.fail("built on it"), ("data",))


def test_what_a_killed_attempt_left_half_written_is_no_part_of_a_step(run, tmp_path):
    work = tmp_path / "data.work"
    work.mkdir()
    (work / "rows.1.part").write_text("half")
    run().do("data", leave("rows"))
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["manifest.json", "rows"]


def test_a_kill_between_commit_and_times_loses_no_time(run, tmp_path):
    run().do("data", leave("rows"))
    run().do("base", leave("base.json"))
    known = read_state(tmp_path)
    (tmp_path / "state.json").write_text(json.dumps({"steps": {"data": known["data"], "eval/answers": {}}}))
    run().note_finished()
    assert read_state(tmp_path) == known | {"eval/answers": {}}
    (tmp_path / "state.json").write_text("")
    run().note_finished()
    assert list(read_state(tmp_path).items()) == list(known.items())


def test_a_clock_that_is_set_back(run, tmp_path, monkeypatch):
    def set_back(run, work):
        monkeypatch.setattr(run_module.time, "time", lambda: 1000.0)
        time.sleep(0.1)

    run().do("data", set_back)
    took = read_state(tmp_path)["data"]
    assert 0.1 <= took["seconds"] < 60 and took["finished"] == 1000.0
    assert manifest.read(tmp_path / "data")["took"] == took


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"path": 1}'])
def test_a_broken_base_is_named(tmp_path, content):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/base.json").write_text(content)
    with pytest.raises(ValueError, match=r"base/base.json"):
        base_of(tmp_path)


def test_a_base_is_found_after_a_move(tmp_path):
    model = tmp_path / "base/model"
    model.mkdir(parents=True)
    for path in ("model", "/where/it/was/base/model", str(model)):
        (tmp_path / "base/base.json").write_text(json.dumps({"path": path}))
        assert base_of(tmp_path) == model
    model.rmdir()
    (tmp_path / "base/base.json").write_text(json.dumps({"path": "owner/name"}))
    assert base_of(tmp_path) == Path("owner/name")


def test_a_checkpoint_of_another_run_is_held_against_its_own_manifest(run, tmp_path):
    other = tmp_path / "other"
    Run(run().config, other).do("iter_0/sft", leave("model"))
    step = str(other / "iter_0/sft")
    run().do("eval/cold", leave("records"), (step,))
    assert manifest.read(tmp_path / "eval/cold")["parents"] == {step: manifest.digest(other / "iter_0/sft")}
    (other / "iter_0/sft/model").write_text("b")
    with pytest.raises(IntegrityError, match=f"{step}/model: its content has changed"):
        run().do("eval/rl_1", leave("records"), (step,))
