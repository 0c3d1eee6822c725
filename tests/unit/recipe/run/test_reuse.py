"""A stage that another run has done is taken from it, if and only if it is the very same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from data_prep.rows import write_rows
from recipe.models import tiny
from recipe.run import manifest, reuse, training
from recipe.run.run import Run
from recipe.steps import rl, sft
from tests.unit.composed import composed

pytestmark = pytest.mark.settings


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[int, Path]:
    """Two base models, by seed: making one takes a while."""
    root = tmp_path_factory.mktemp("weights")
    for seed in (1, 2):
        tiny.make_tiny(["You are Mira. Labels: neutral."], root / str(seed), seed)
    return {seed: root / str(seed) for seed in (1, 2)}


@pytest.fixture
def make_run(tmp_path, monkeypatch, make_prompt_row, weights):
    """Builds a run whose data are there; its training stages are counted instead of run."""
    done = []

    def run_stage(stage, config, work, **_):
        done.append((stage, work.parent.parent.name))
        folder = "actor/huggingface" if stage == "rl" else "huggingface"
        model = work / f"checkpoints/global_step_1/{folder}"
        model.mkdir(parents=True)
        (model / "weights.txt").write_text(f"{len(done)}")
        for name in ("model.safetensors", "config.json"):
            shutil.copy(work.parents[1] / "base/model" / name, model)
        (work / "usage.json").write_text("{}")

    monkeypatch.setattr(training, "run_stage", run_stage)

    def make(name: str, *overrides: str, rows: int = 16, seed: int = 1) -> Run:
        folder = tmp_path / name
        shutil.copytree(weights[seed], folder / "base/model")
        (folder / "base/base.json").write_text(json.dumps({"path": str(folder / "base/model")}))
        prompts = [make_prompt_row(str(i)) | {"response": "<think>a</think>{}"} for i in range(rows)]
        write_rows(prompts, folder / "iter_0/buffer/buffer.parquet")
        write_rows([make_prompt_row("dev")], folder / "data/dev.parquet")
        values = (f"run.name={name}", "data.max_prompt_length=192", "data.train_batch_size=16")
        config = composed(*values, *overrides)
        return Run(config, folder)

    return make, done


def train(run: Run) -> None:
    run.do("iter_0/sft", sft.cold_start)
    run.do("iter_1/rl", lambda run, work: rl.train(run, work, 1))


def test_what_is_the_same_is_done_once(make_run, tmp_path):
    make, done = make_run
    train(make("full"))
    reuse = f"run.reuse=[{tmp_path}/none,{tmp_path}/full]"
    train(make("same", reuse, "evaluate.stages=[rl]", "flywheel.mix.self_play=0"))
    assert done == [("sft", "full"), ("rl", "full")]
    same = tmp_path / "same"
    assert (same / "iter_0/sft/model/weights.txt").read_text() == "1"
    assert (same / "iter_1/rl/model/weights.txt").read_text() == "2"
    assert json.loads((same / "iter_0/sft/usage.json").read_text()) == {"taken_from": "full"}
    assert json.loads((tmp_path / "full/iter_0/sft/usage.json").read_text()) == {}
    assert json.loads((same / "iter_1/rl/counts.json").read_text())["prompts"] == 16
    train(make("third", f"run.reuse=[{same}]"))  # what was taken can be taken again
    assert len(done) == 2


@pytest.mark.parametrize(
    ("change", "rows", "seed", "again"),
    [
        (["algorithm.adv_estimator=grpo"], 16, 1, ["rl"]),
        (["sft.optim.lr=1e-3"], 16, 1, ["sft"]),
        ([], 17, 1, ["sft", "rl"]),  # other data
        ([], 16, 2, ["sft", "rl"]),  # other weights
        (["run.seed=2"], 16, 1, ["sft", "rl"]),
    ],
)
def test_what_differs_is_done(make_run, tmp_path, change, rows, seed, again):
    make, done = make_run
    train(make("full"))
    train(make("other", f"run.reuse=[{tmp_path}/full]", *change, rows=rows, seed=seed))
    assert [stage for stage, run in done if run == "other"] == again


def test_a_stage_that_was_half_taken_is_not_taken_for_done(make_run, tmp_path, monkeypatch):
    make, done = make_run
    train(make("full"))
    again = make("again", f"run.reuse=[{tmp_path}/full]")
    link = reuse._link

    def ended(source: str, target: str) -> None:
        if source.endswith("model.safetensors"):
            raise KeyboardInterrupt
        link(source, target)

    monkeypatch.setattr(reuse, "_link", ended)
    with pytest.raises(KeyboardInterrupt):
        train(again)
    monkeypatch.setattr(reuse, "_link", link)
    shutil.rmtree(tmp_path / "full/iter_0")  # what it was being taken from is gone
    train(again)
    assert done == [("sft", "full"), ("rl", "full"), ("sft", "again")]
    assert (tmp_path / "again/iter_0/sft/model/model.safetensors").exists()


def test_what_has_changed_since_is_not_taken(make_run, tmp_path, capsys):
    make, done = make_run
    train(make("full"))
    (tmp_path / "full/iter_0/sft/model/weights.txt").write_text("other")
    train(make("other", f"run.reuse=[{tmp_path}/full]"))
    assert ("sft", "other") in done
    assert "iter_0/sft is not taken from full: " in capsys.readouterr().out


def test_what_is_taken_has_a_manifest_of_its_own(make_run, tmp_path):
    make, _ = make_run
    train(make("full"))
    train(make("same", f"run.reuse=[{tmp_path}/full]"))
    for run in ("full", "same"):
        assert (
            manifest.check(tmp_path / run, "iter_0/sft") == [] == manifest.check(tmp_path / run, "iter_1/rl")
        )
    assert manifest.digest(tmp_path / "same/iter_0/sft") != manifest.digest(tmp_path / "full/iter_0/sft")
