"""What a run earns in each cluster of personas: the table, its own page, and its section of the run's."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from data_prep.persona_clusters import NOISE
from recipe.pages import clusters as persona_table
from recipe.pages.report import write_report
from tests.unit.fake_run import make_run, without_a_model


def test_the_table_joins_records_by_the_persona_that_was_played():
    def record(row, dialogue, iou, acc):
        return {
            "row_id": row,
            "corpus": "meld",
            "dialogue_id": dialogue,
            "iou": iou,
            "score": iou + 0.1,
            "acc": acc,
        }

    records = [record("r1", "d1", 0.2, 0), record("r2", "d1", 0.4, 1), record("r3", "d2", 0.9, 1)]
    records.append(record("r4", "d2", 0.5, 0))
    played = {
        r: ("meld", d, n) for r, d, n in [("r1", "d1", "Ann"), ("r2", "d1", "Bob"), ("r3", "d2", "Ann")]
    }
    cluster_of = {("meld", "d1", "Ann"): 1, ("meld", "d1", "Bob"): NOISE, ("meld", "d2", "Ann"): 1}
    with pytest.raises(ValueError, match="eval/rl/records.json: r4 is no prompt"):
        persona_table.persona_table({"rl": records}, played, cluster_of)
    table = persona_table.persona_table({"rl": records[:3]}, played, cluster_of)["rl"]
    assert list(table) == ["1", "-1", "all"]
    assert {k: (v["n"], v["dialogues"]) for k, v in table.items()} == {
        "1": (2, 2),
        "-1": (1, 1),
        "all": (3, 2),
    }
    means = {m: table["1"][m]["mean"] for m in ("iou", "reward", "accuracy")}
    assert means == pytest.approx({"iou": 0.55, "reward": 0.65, "accuracy": 0.5})
    # Two dialogues of one row: a quarter of the draws are d1 twice, a quarter d2 twice.
    assert table["1"]["iou"]["interval"] == pytest.approx([0.2, 0.9])
    assert table["-1"]["iou"]["interval"] is None
    assert table["all"]["iou"]["mean"] == pytest.approx(0.5)


@pytest.fixture
def quick(monkeypatch):
    without_a_model(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "finished")


def test_a_run_gets_a_page_and_a_table(finished, tmp_path, quick, monkeypatch, capsys):
    run = shutil.copytree(finished, tmp_path / "<run>")
    monkeypatch.setattr("sys.argv", ["clusters", "--run", str(run)])
    assert persona_table.main() == 0
    assert f"page: {run / 'clusters.html'}" in capsys.readouterr().out
    content, page = json.loads((run / "clusters.json").read_text()), (run / "clusters.html").read_text()
    assert sum(c["size"] for c in content["clusters"]) == content["sentences"] == len(content["people"])
    assert list(content["table3"]) == ["majority", "tfidf", "cold", "rl", "retrained"]
    for stage, parts in content["table3"].items():
        records = json.loads((run / f"eval/{stage}/records.json").read_text())
        assert sum(p["n"] for name, p in parts.items() if name != "all") == parts["all"]["n"] == len(records)
        assert parts["all"]["iou"]["mean"] == pytest.approx(np.mean([r["iou"] for r in records]))
    noise = sum(person["cluster"] == NOISE for person in content["people"]) / len(content["people"])
    assert f"{100 * noise:.1f} % of the people are in none" in page
    assert "Table 3" in page and "<svg" in page and "after RL" in page
    before = (run / "clusters.json").read_bytes(), page
    assert persona_table.main() == 0
    assert ((run / "clusters.json").read_bytes(), (run / "clusters.html").read_text()) == before


def section(page: str) -> str:
    start = page.index('<h2 id="personas">')
    return page[start : page.index("<h2", start + 1)]


def test_the_runs_page_has_the_clusters(finished, tmp_path, quick):
    run = shutil.copytree(finished, tmp_path / "run")
    assert "make clusters RUN=run" in section(write_report(run).read_text())
    persona_table.write(run / "data", run, run, None)
    content, part = json.loads((run / "clusters.json").read_text()), section(write_report(run).read_text())
    assert part.count("<svg") == 1 and "make clusters" not in part and "after RL" in part
    lines = re.findall("<tr.*<td>([0-9]+)</td><td>[0-9]+</td>(.*)</tr>", part)
    shown = [(int(n), [float(x) for x in re.findall(r"<td>([0-9.]+)", cells)]) for n, cells in lines]
    table = content["table3"]
    assert shown == [
        (table["cold"][c]["n"], [round(parts[c][measure]["mean"], 3) for parts in table.values()])
        for measure in ("iou", "reward", "accuracy")
        for c in table["cold"]
    ]


def test_the_runs_page_scores_what_was_answered_since(finished, tmp_path, quick):
    """The table is made of the records as they are now, not as they were for `make clusters`."""
    run = shutil.copytree(finished, tmp_path / "run")
    persona_table.write(run / "data", run, run, None)
    path = run / "eval/rl/records.json"
    path.write_text(json.dumps([r | {"iou": 0.1234} for r in json.loads(path.read_text())]))
    before = json.loads((run / "clusters.json").read_text())["table3"]["rl"]
    assert "0.123" not in {f"{row['iou']['mean']:.3f}" for row in before.values()}
    assert section(write_report(run).read_text()).count("<td>0.123<") == len(before)


def test_an_evaluation_has_the_clusters_of_the_run_that_it_scores(finished, tmp_path, quick):
    run, scoring = (shutil.copytree(finished, tmp_path / name) for name in ("run", "scoring"))
    persona_table.write(run / "data", run, None, None)
    config = (scoring / "config.yaml").read_text()
    (scoring / "config.yaml").write_text(config.replace("evaluate: {", f"evaluate: {{of: {run}, "))
    assert "after RL" in section(write_report(scoring).read_text())
    # Of somebody whom it does not know it says nothing.
    content = json.loads((run / "clusters.json").read_text())
    people = [p for p in content["people"] if p["corpus"] != "meld"]
    (run / "clusters.json").write_text(json.dumps(content | {"people": people}))
    assert "make clusters RUN=scoring" in section(write_report(scoring).read_text())


def test_a_broken_file_of_clusters_is_named_on_the_page(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "clusters.json").write_text("{")
    page = write_report(run).read_text()
    assert "clusters.json: no JSON" in page and f"make clusters RUN={run} writes it again" in page


def test_data_alone_has_no_table_and_text_is_escaped(tmp_path, monkeypatch, capsys):
    path = tmp_path / "personas.json"
    path.write_text(json.dumps({"meld:test:1": {"Ann": "Says <b>loud</b> things."}}))
    monkeypatch.setattr("sys.argv", ["clusters", "--data", str(path)])
    assert persona_table.main() == 0
    assert "1 sentences are fewer than the 5" in capsys.readouterr().out
    page = (tmp_path / "clusters.html").read_text()
    assert "Table 3" not in page and "<b>loud" not in page and "&lt;b&gt;loud" in page
    monkeypatch.setattr("sys.argv", ["clusters", "--data", str(tmp_path / "none")])
    assert persona_table.main() == 1 and "error: " in capsys.readouterr().err
