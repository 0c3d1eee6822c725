"""Several runs side by side, on the terminal and as a page."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipe.evaluation.measures import MEASURES
from recipe.evaluation.permutation_tests import paired_permutation
from recipe.evaluation.results import read_evaluation
from recipe.pages import compare, report
from tests.unit.fake_run import make_run as make_full_run


def make_run(root: Path, name: str, rewards: dict[str, float], corpora=("meld", "avg")) -> Path:
    folder = root / name
    for stage, reward in rewards.items():
        (folder / f"eval/{stage}").mkdir(parents=True)
        table = {corpus: {"n": 4, **dict.fromkeys(MEASURES, 0.5), "reward": reward} for corpus in corpora}
        (folder / f"eval/{stage}/summary.json").write_text(json.dumps(table))
    (folder / "config.yaml").write_text("run: {seed: 7}\n")
    steps = {"data": {"seconds": 30.0}, "iter_1/rl": {"seconds": 90.0}}
    (folder / "state.json").write_text(json.dumps({"steps": steps}))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Two seeds of one setting, and a run of another."""
    root = tmp_path_factory.mktemp("runs")
    found = [make_full_run(root / name, seed=i) for i, name in enumerate(("one", "two"), start=1)]
    other = shutil.copytree(found[0], root / "other")
    text = (other / "config.yaml").read_text().replace("self_grpo", "grpo")
    (other / "config.yaml").write_text(text)
    records = json.loads((other / "eval/rl/records.json").read_text())
    for record in records:
        record |= {"acc": 1.0, "score": 1.1, "pred": record["gold"]}
    (other / "eval/rl/records.json").write_text(json.dumps(records))
    return [*found, other]


def test_mean_and_deviation_of_the_checkpoints_that_all_runs_scored(tmp_path, monkeypatch, capsys):
    runs = [make_run(tmp_path, "a", {"cold": 0.2, "rl": 0.5}), make_run(tmp_path, "b", {"cold": 0.4})]
    monkeypatch.setattr("sys.argv", ["compare", *map(str, runs)])
    assert compare.main() == 0
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.startswith("after cold start")]
    assert "0.300 ± 0.141" in line and "0.500 ± 0.000" in line
    assert (
        "after RL" not in text and "a: seed 7, 4 test utterances, 2.0 min" in text and "setting" not in text
    )
    assert "weighted F1" in text and "keeps the rule" in text
    assert "0.300 ± 0.141" in (tmp_path / "compare.html").read_text()


def test_what_cannot_be_compared(tmp_path, monkeypatch, capsys):
    one, other = make_run(tmp_path, "a", {"cold": 0.2}), make_run(tmp_path, "b", {"rl": 0.4})
    with pytest.raises(ValueError, match="no checkpoint that all of them scored"):
        compare.compare_runs([one, other])
    with pytest.raises(ValueError, match="different corpora"):
        compare.compare_runs([one, make_run(tmp_path, "c", {"cold": 0.2}, ("iemocap", "avg"))])
    with pytest.raises(ValueError, match="named twice"):
        compare.compare_runs([one, one])
    monkeypatch.setattr("sys.argv", ["compare", "a"])
    assert compare.main() == 1 and "at least two runs" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["compare", str(one), str(tmp_path / "nowhere")])
    assert compare.main() == 1 and "nowhere: no run" in capsys.readouterr().err


def test_runs_that_differ_in_more_than_the_seed_are_kept_apart(runs):
    groups = compare.settings_of([compare.read_run(folder) for folder in runs])
    names = {name: [run.folder.name for run in group] for name, group in groups.items()}
    assert names == {"A": ["one", "two"], "B": ["other"]}
    assert compare.differences(groups) == [("algorithm.adv_estimator", ["self_grpo", "grpo"])]
    text, page = compare.compare_runs(runs)
    assert "\nalgorithm.adv_estimator: A self_grpo, B grpo\n" in text
    assert "setting A: one, two" in text and "nan" not in page.read_text()
    html = page.read_text()
    assert "<td>algorithm.adv_estimator</td><td>self_grpo</td><td>grpo</td>" in html
    assert html.count("<figure>") >= 3 and 'href="two/report.html"' in html
    rewards = [read_evaluation(run, "summary")["cold"]["meld"]["reward"] for run in runs[:2]]
    assert f"{statistics.mean(rewards):.3f} ± {statistics.stdev(rewards):.3f}" in html


def test_tests_between_settings_pair_the_rows_of_all_seeds(runs):
    groups = compare.settings_of([compare.read_run(folder) for folder in runs])
    found = {line["stage"]: line for line in compare.tests_between(groups, ["cold", "rl"])}
    records = [{r["row_id"]: r for r in read_evaluation(run, "records")["rl"]} for run in runs]
    ids = sorted(records[0])
    first = [(records[0][i]["score"] + records[1][i]["score"]) / 2 for i in ids]
    second = [1.1] * len(ids)
    assert found["rl"]["reward_difference"] == pytest.approx(1.1 - math.fsum(first) / len(ids))
    dialogues = [f"{records[0][i]['corpus']}/{records[0][i]['dialogue_id']}" for i in ids]
    p = paired_permutation(first, second, dialogues)
    assert found["rl"]["reward_p"] == pytest.approx(min(1, 2 * p))  # the smaller of Holm's two
    assert found["rl"]["reward_p"] < found["cold"]["reward_p"]
    assert (found["rl"]["first"], found["rl"]["second"]) == ("A", "B")


def test_gains_seed_by_seed(runs):
    groups = compare.settings_of([compare.read_run(folder) for folder in runs])
    stages = compare.shared_stages([run for group in groups.values() for run in group])
    gains = {found["setting"]: found for found in compare.gains_of(groups, stages)}
    assert (gains["A"]["first"], gains["A"]["last"]) == ("cold", "retrained")  # from the order of the run
    summaries = [read_evaluation(run, "summary") for run in runs[:2]]
    before, after = ([s[stage]["avg"]["accuracy"] for s in summaries] for stage in ("cold", "retrained"))
    gain = gains["A"]["gain"]
    assert [(s.seed, s.before, s.after) for s in gain.seeds] == [
        ("seed 1", pytest.approx(before[0]), pytest.approx(after[0])),
        ("seed 2", pytest.approx(before[1]), pytest.approx(after[1])),
    ]
    assert gain.mean == pytest.approx((sum(after) - sum(before)) / 2)
    text, page = compare.compare_runs(runs)
    assert f"{gain.mean:+.3f}" in text and gain.describe() in text and gain.describe() in page.read_text()
    assert "setting A: accuracy from after cold start to after retraining on B" in text
    (low, high) = gain.interval
    assert f"{low:+.3f} to {high:+.3f}" in text and f"{low:+.3f} to {high:+.3f}" in page.read_text()
    assert compare.gains_of(groups, ["base", "cold"]) == []


def test_runs_of_one_seed_go_by_their_names(runs, tmp_path):
    again = shutil.copytree(runs[0], tmp_path / "again")
    groups = compare.settings_of([compare.read_run(folder) for folder in (runs[0], again)])
    (found,) = compare.gains_of(groups, ["cold", "rl"])
    assert [s.seed for s in found["gain"].seeds] == ["one", "again"]


def test_a_setting_that_has_come_up_since_makes_no_other_setting(runs, tmp_path):
    """It could not have been given then; another value than today's default is another setting."""
    folders = [shutil.copytree(runs[0], tmp_path / name) for name in ("old", "new", "other")]
    for folder, paraphrases in zip(folders, (None, 0, 2), strict=True):
        config = OmegaConf.load(folder / "config.yaml")
        config.setdefault("evaluate", {}).pop("paraphrases", None)
        if paraphrases is not None:
            config.evaluate.paraphrases = paraphrases
        OmegaConf.save(config, folder / "config.yaml")
    groups = compare.settings_of([compare.read_run(folder) for folder in folders])
    assert [[run.folder.name for run in group] for group in groups.values()] == [["old", "new"], ["other"]]


def test_settings_are_paired_by_seed(runs):
    """Setting B has seed 1 alone, whose records after RL are all right."""
    groups = compare.settings_of([compare.read_run(folder) for folder in runs])
    found = {line["stage"]: line["gain"] for line in compare.settings_by_seed(groups, ["cold", "rl"])}
    assert [s.seed for s in found["rl"].seeds] == ["seed 1"]
    accuracy = read_evaluation(runs[0], "summary")["rl"]["avg"]["accuracy"]
    assert found["rl"].mean == pytest.approx(1 - accuracy) and found["cold"].mean == 0


def test_settings_that_answered_other_rows_are_not_tested(runs, tmp_path):
    shorter = shutil.copytree(runs[2], tmp_path / "shorter")
    path = shorter / "eval/rl/records.json"
    path.write_text(json.dumps(json.loads(path.read_text())[1:]))
    groups = compare.settings_of([compare.read_run(folder) for folder in (runs[0], shorter)])
    assert [line["stage"] for line in compare.tests_between(groups, ["cold", "rl"])] == ["cold"]


def test_a_report_of_several_runs_compares_them(runs, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["report", *map(str, runs)])
    assert report.main() == 0
    text = capsys.readouterr().out
    assert all(str(folder / "report.html") in text for folder in runs)
    assert "3 runs, mean and standard deviation" in text and str(runs[0].parent / "compare.html") in text


def test_the_page_opens_with_every_seed_and_their_mean(runs, monkeypatch):
    drawn = []
    real = compare.figures.seeds_chart
    monkeypatch.setattr(compare.figures, "seeds_chart", lambda *given: drawn.append(given) or real(*given))
    _, page = compare.compare_runs(runs)
    ((stages, settings, baselines),) = drawn
    assert stages[0] == "after cold start" and len(stages) >= 2
    assert list(settings) == ["A", "B: other"]  # "one" and "two" have no beginning in common
    for seeds, folders in zip(settings.values(), (runs[:2], runs[2:]), strict=True):
        for values, folder in zip(seeds, folders, strict=True):
            summaries = read_evaluation(folder, "summary")
            assert values[0] == summaries["cold"]["avg"]["accuracy"]
            assert (
                values[-1]
                == summaries[[s for s in summaries if s.startswith("retrained")][-1]]["avg"]["accuracy"]
            )
    assert all(0 <= accuracy <= 1 for accuracy in baselines.values())
    text = page.read_text()
    assert text.index("<svg") < text.index("Held-out test splits")


@pytest.mark.parametrize(
    "own", ["env: {OMP_NUM_THREADS: 1}", "evaluate: {replicas: 2}", "evaluate: {batch_rows: 8}"]
)
def test_what_says_where_and_how_fast_it_ran_does_not_make_a_setting(tmp_path, own):
    folders = [make_run(tmp_path, name, {"cold": 0.2}) for name in ("a-s1", "a-s2", "b")]
    for folder, text in zip(folders, (own, "cluster: {num_cpus: 2}", "labels: {kind: votes}"), strict=True):
        (folder / "config.yaml").write_text(f"run: {{seed: 1}}\n{text}\n")
    groups = compare.settings_of([compare.read_run(folder) for folder in folders])
    assert [[run.folder.name for run in group] for group in groups.values()] == [["a-s1", "a-s2"], ["b"]]
    assert compare._title("A", groups["A"]) == "A: a"
