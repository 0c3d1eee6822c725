"""Runs that are older, unfinished or broken: what is missing is said, and the rest is shown."""

from __future__ import annotations

import html
import json
import shutil

import pyarrow.parquet as pq
import pytest

from recipe.evaluation.measures import MEASURES
from recipe.evaluation.results import read_evaluation, read_summaries
from recipe.evaluation.rl_stages import read_rl_stages
from recipe.pages import report
from recipe.pages.report import write_report
from recipe.run.files import run_folder


def test_what_the_reader_found_is_kept_beside_the_records(tmp_path, run, monkeypatch):
    kept = shutil.copytree(run, tmp_path / "kept")
    write_report(kept)
    monkeypatch.setattr(report.gains_section, "readers", lambda rows: pytest.fail("trained once more"))
    before = write_report(kept).read_text()
    assert "Cohen" in before
    (kept / "data/train.parquet").unlink()  # an older run that has kept no training prompts
    (kept / "eval/rl/own_emotions.json").unlink()
    assert "Cohen" not in write_report(kept).read_text()


def test_an_older_run_is_shown_too(tmp_path, run):
    """Its summaries lack what was added later; without records there is nothing to add."""
    old = shutil.copytree(run, tmp_path / "old")
    for path in old.glob("eval/*/summary.json"):
        table = json.loads(path.read_text())
        path.write_text(
            json.dumps({c: {k: row[k] for k in ("n", *MEASURES, "reasons")} for c, row in table.items()})
        )
    records = read_evaluation(old, "records")
    assert read_summaries(old, records) == read_summaries(run, records)
    for path in old.glob("eval/*/records.json"):
        path.unlink()
    (old / "versions.json").unlink()
    shutil.rmtree(old / "iter_1")
    shutil.rmtree(old / "iter_2")
    page = write_report(old).read_text()
    assert "No checkpoint has been scored with records" in page and "No RL stage has rollouts" in page
    assert "after cold start" in page and "now (the run kept none)" in page


def test_a_run_that_has_scored_nothing_yet_has_a_page(tmp_path, run):
    young = shutil.copytree(run, tmp_path / "young")
    for name in ("eval", "iter_0", "iter_1", "iter_2"):
        shutil.rmtree(young / name)
    page = write_report(young).read_text()
    assert "Unfinished: no score yet" in page and "No RL stage has rollouts" in page


def test_what_is_broken_is_named(tmp_path, run):
    broken = shutil.copytree(run, tmp_path / "broken")
    (broken / "iter_2/rl/rollouts/step_000006.parquet").write_bytes(b"half")
    (broken / "iter_1/rl/train.parquet").unlink()
    stages = read_rl_stages(broken)
    assert "step_000006.parquet cannot be read" in stages[1].problems[0] and len(stages[1].groups) == 5 * 6
    assert stages[0].problems == ["iter_1/rl has no train.parquet, so no rollout is shown"]
    (broken / "eval/rl/summary.json").write_text("{")
    with pytest.raises(ValueError, match="eval/rl/summary.json: no JSON"):
        write_report(broken)
    with pytest.raises(ValueError, match="nowhere: no run"):
        run_folder(str(tmp_path / "nowhere"))


def test_rollouts_of_another_run_are_refused(tmp_path, run):
    mixed = shutil.copytree(run, tmp_path / "mixed")
    rows = pq.read_table(mixed / "iter_1/rl/train.parquet")
    pq.write_table(rows.slice(0, 1), mixed / "iter_1/rl/train.parquet")
    with pytest.raises(ValueError, match="is not in iter_1/rl/train.parquet"):
        read_rl_stages(mixed)


def test_what_is_missing_or_broken_is_said_and_the_rest_is_shown(run, tmp_path, capsys):
    hurt = shutil.copytree(run, tmp_path / "hurt")
    assert not any(stage.problems for stage in read_rl_stages(hurt))
    (hurt / "eval/rl/records.json").unlink()
    (hurt / "iter_1/rl/counts.json").write_text('{"steps": 9}')
    steps = len(list((hurt / "iter_1/rl/rollouts").glob("step_*.parquet")))
    (hurt / "judge/cold_rl").mkdir(parents=True)
    (hurt / "judge/cold_rl/summary.json").write_text("{")
    metrics = hurt / "iter_1/rl/metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-20])  # half of the last step's
    summary = json.loads((hurt / "eval/rl/summary.json").read_text())
    summary["avg"]["valid"] = 0.25
    (hurt / "eval/rl/summary.json").write_text(json.dumps(summary))
    text = html.unescape(write_report(hurt).read_text())
    said = capsys.readouterr().err
    for words in (
        "eval/rl/records.json is missing, and with it the intervals and tests of it: delete eval/rl and",
        f"iter_1/rl/rollouts lacks {9 - steps} of 9 steps; the others are shown",
        "judge/cold_rl/summary.json: no JSON",
        "make judge writes it again",
        "after RL: 25% of the test answers keep the rule, the others earn nothing",
        "iter_1/rl has no metrics of step 6, 7, 8, 9: it was ended between the step's checkpoint and its",
        "iter_1/rl/metrics.jsonl: 1 broken line(s), which a kill leaves, are left out",
    ):
        assert words in text and words in said
    (hurt / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"hurt/state.json: no JSON .*; write {\"steps\": {}} to it"):
        write_report(hurt)
