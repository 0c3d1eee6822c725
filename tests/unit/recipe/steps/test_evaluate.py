"""What the checkpoints of a run are asked, and what is kept of their answers."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from data_prep.rows import read_rows, write_rows
from recipe.evaluation.answers import write_part
from recipe.run.run import Run
from recipe.steps import evaluate

SAID = (
    "<think>hm</think>{'last_emotions': {'joy': 0.6, 'anger': 0.4}, "
    "'my_emotions': {'joy': 1}, 'my_output': 'a'}"
)


@pytest.fixture
def run(tmp_path, monkeypatch, make_prompt_row):
    """A run whose only checkpoint always answers `SAID`; veRL's part is played by `run_stage`."""
    for name, count in (("test", 4), ("train", 9)):
        labels = ({"joy": 1.0}, {"anger": 1.0}, {"fear": 1.0})
        rows = [make_prompt_row(f"{name}:{i}", label=labels[i % 3]) for i in range(count)]
        write_rows(rows, tmp_path / f"data/{name}.parquet")
    (tmp_path / "data/leakage.json").write_text("[]")
    (tmp_path / "base").mkdir()
    (tmp_path / "base/base.json").write_text(json.dumps({"path": "base"}))
    config = {"run": {"seed": 1, "retries": 0}, "prompts": {"dir": "compact"}, "expert": {"kind": "offline"},
              "trainer": {"experiment_name": ""}, "flywheel": {"iterations": 0},
              "evaluate": {"of": None, "stages": ["cold"], "train_rows": 6, "samples": 1,
                           "temperature": 0.7}}  # fmt: skip
    made = Run(OmegaConf.create(config), tmp_path)

    def run_stage(stage, config, work, total):
        assert total == sum(len(read_rows(path)) for path in config.job.data.values())
        for name, path in config.job.data.items():
            said = {row["extra_info"]["row_id"]: [SAID] for row in read_rows(path)}
            write_part(said, work / f"cold/{name}/part_00000000.parquet", config.job.of["cold"])

    monkeypatch.setattr(evaluate, "run_stage", run_stage)
    monkeypatch.setattr(evaluate, "fit_rows", lambda rows, *_: (rows, 0))
    return made


def test_training_rows_are_scored_beside_the_test_splits(run):
    evaluate.checkpoints(run)
    folder = run.folder / "eval/cold"
    test, train = (json.loads((folder / f"summary{x}.json").read_text())["avg"] for x in ("", "_train"))
    assert (test["n"], train["n"]) == (4, 6)
    # Two rows of each of three labels, as in the split: p(gold) is 0.6, 0.4 and 0.
    assert train["gold_weight"] == pytest.approx((0.6 + 0.4 + 0) / 3)
    records = json.loads((folder / "records_train.json").read_text())
    sample = evaluate.training_sample(run)
    assert [r["row_id"] for r in records] == [row["extra_info"]["row_id"] for row in sample]


@pytest.mark.parametrize("most", [0, None])
def test_no_training_row_is_asked_where_none_is_wanted(run, most):
    run.config.evaluate.train_rows = most
    evaluate.checkpoints(run)
    assert not (run.folder / "eval/cold/summary_train.json").exists()
    assert json.loads((run.folder / "eval/cold/summary.json").read_text())["avg"]["n"] == 4


def test_another_runs_checkpoints_are_asked_what_they_were_trained_on(run, tmp_path, make_prompt_row):
    write_rows([make_prompt_row("theirs")], tmp_path / "other/data/train.parquet")
    run.config.evaluate.of = str(tmp_path / "other")
    assert [row["extra_info"]["row_id"] for row in evaluate.training_sample(run)] == ["theirs"]


def test_every_row_has_its_prediction_beside_the_measures(run):
    evaluate.checkpoints(run)
    table = pq.read_table(run.folder / "eval/cold/predictions/meld.parquet").to_pylist()
    assert [row["predicted"] for row in table] == ["joy"] * 4


def test_other_wordings_are_asked_and_their_range_kept(run, monkeypatch):
    run.config.evaluate.paraphrases = 3
    asked = {}

    def run_stage(stage, config, work, total):
        """Each wording is answered in its own way: the first breaks the rule."""
        for name, path in config.job.data.items():
            rows = read_rows(path)
            asked[name] = [row["prompt"] for row in rows]
            said = {r["extra_info"]["row_id"]: [SAID if name != "paraphrase_1" else "no"] for r in rows}
            write_part(said, work / f"cold/{name}/part_00000000.parquet", config.job.of["cold"])

    monkeypatch.setattr(evaluate, "run_stage", run_stage)
    evaluate.checkpoints(run)
    names = ["test", "paraphrase_1", "paraphrase_2", "paraphrase_3"]
    prompts = [json.dumps(asked[name][0]) for name in names]
    assert len(set(prompts)) == 4 and all("I won!" in prompt for prompt in prompts)
    found = json.loads((run.folder / "eval/cold/summary_paraphrases.json").read_text())
    # Of four rows two have the label joy; the first wording has no answer that keeps the rule.
    assert found["meld"]["accuracy"]["values"] == [0, 0.5, 0.5]
    assert found["avg"]["accuracy"]["mean"] == pytest.approx(1 / 3)
    assert (found["avg"]["valid"]["low"], found["avg"]["valid"]["high"]) == (0, 1)
    assert json.loads((run.folder / "eval/cold/summary.json").read_text())["avg"]["accuracy"] == 0.5


def test_a_run_without_other_wordings_has_no_range(run):
    evaluate.checkpoints(run)
    assert not (run.folder / "eval/cold/summary_paraphrases.json").exists()
