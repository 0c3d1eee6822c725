"""The persona's real next utterance, and my_emotions set against its gold label."""

from __future__ import annotations

import json

import pytest

from data_prep.corpora import read_corpora
from data_prep.prepare import dialogue_rows
from data_prep.prompt import load_templates
from recipe.evaluation import next_turn
from recipe.evaluation.next_turn import real_next_labels, understanding
from tests.unit.samples import SAMPLES

TURNS = (("Ann", "Hello."), ("Bob", "Hi."), ("Ann", "I won!"), ("Ann", "Look!"), ("Bob", "No way."))


@pytest.fixture
def dialogue(make_prompt_row):
    """Rows of `TURNS`: the persona is who does not speak last; labels joy, fear, anger, sadness, disgust."""
    labels = ("joy", "fear", "anger", "sadness", "disgust")
    return [
        make_prompt_row(
            f"r{i}",
            turns=TURNS[: i + 1],
            persona="Bob" if TURNS[i][0] == "Ann" else "Ann",
            label={label: 1.0},
            personas=("Ann", "Bob"),
        )
        for i, label in enumerate(labels)
    ]


def test_the_persona_speaks_next_or_after_a_turn_of_the_others(dialogue):
    found = real_next_labels(dialogue)
    assert found == {
        "r0": {"fear": 1.0},  # Bob answers at once
        "r1": {"anger": 1.0},  # Ann
        "r2": {"disgust": 1.0},  # Bob, after Ann has said one more thing
        "r3": {"disgust": 1.0},
    }  # after r4 nobody speaks
    assert real_next_labels(list(reversed(dialogue))) == found


def test_an_utterance_without_a_row_is_not_skipped(dialogue):
    """Bob's "Hi." has no row: what he says four turns later is not what he felt next."""
    assert "r0" not in real_next_labels([dialogue[0], *dialogue[2:]])
    # That Ann's "I won!" has none is no hindrance: Bob says nothing in it.
    assert real_next_labels([row for row in dialogue if row["extra_info"]["row_id"] != "r3"])["r2"] == {
        "disgust": 1.0
    }


def test_other_dialogues_splits_and_self_play_do_not_mix(dialogue, make_prompt_row):
    first = dialogue[0]
    other = make_prompt_row("s", turns=(("Ann", "Bye."), ("Bob", "Hi.")), label={"joy": 1.0})  # the same id
    test = make_prompt_row("t", turns=TURNS[:2], persona="Ann", label={"joy": 1.0})
    test["extra_info"]["split"] = "test"
    own = make_prompt_row("u", turns=TURNS[:2], persona="Ann", lineage={"origin": "self_play"})
    assert real_next_labels([first, other, test, own]) == {}


def test_on_the_sample_dialogues_against_the_dialogues_themselves():
    templates, known, expected = load_templates("compact"), {}, {}
    rows = []
    for talk in read_corpora(SAMPLES):
        rows += (part := list(dialogue_rows(talk, templates)))
        said = talk.utterances
        for row in part:
            info = row["extra_info"]
            name, i = info["persona"]["name"], len(info["context"])
            after = next((u for u in said[i:] if u.speaker == name), None)
            if after is not None and after.label is not None:
                expected[info["row_id"]] = {after.label: 1.0}
    known = real_next_labels(rows)
    assert known == expected and len(known) > 300


def record(row: str, mine: dict, pred: str, dialogue: str = "d1", valid: bool = True) -> dict:
    said = {"last_emotions": {pred: 1.0}, "my_emotions": mine} if valid else {"my_emotions": {}}
    return {
        "row_id": row, "corpus": "meld", "dialogue_id": dialogue, "valid": float(valid), "pred": pred,
        "parsed": json.dumps(said),
    }  # fmt: skip


def test_my_emotions_against_the_real_next_utterance(dialogue):
    # Truth: r0 fear, r1 anger, r2 disgust, r3 disgust; r4 has none.
    records = [
        record("r0", {"fear": 0.8, "joy": 0.1}, "joy"),
        record("r1", {"joy": 1.0}, "anger"),
        record("r2", {"curiosity": 0.9, "disgust": 0.2}, "neutral"),  # a word that the corpus does not have
        record("r3", {}, "(invalid)", valid=False),
        record("r4", {"joy": 1.0}, "joy"),
    ]
    (found,) = understanding(dialogue, records).values()
    assert (found["n"], found["mine"], found["neutral"], found["copied"]) == (4, 0.5, 0.0, 0.25)
    assert found["better"] == "copied" and found["gain"].mean == 0.25
    assert found["gain"].interval is None  # one dialogue
    # fear: 1 of 1; disgust: 1 of 2, precision 1, so F1 2/3; over seven labels.
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3) / 7)
    assert found["copied_macro_f1"] == pytest.approx(1 / 7)
    assert understanding(dialogue, records[4:]) == {}


@pytest.mark.parametrize(
    ("labels", "always"),
    [
        (("no emotion", "anger", "fear", "disgust"), 0.0),  # DailyDialog's word for it
        (("anger", "fear", "disgust"), 0.5),  # none: disgust, which is felt most often
        (("fear", "anger", "disgust", "Neutral"), 0.0),
    ],
)
def test_a_corpus_without_the_word_neutral(dialogue, monkeypatch, labels, always):
    monkeypatch.setattr(next_turn, "corpus_labels", lambda _: labels)
    records = [record(f"r{i}", {"fear": 1.0}, "anger") for i in range(4)]  # truth: fear, anger, disgust twice
    (found,) = understanding(dialogue, records).values()
    assert (found["neutral"], found["mine"], found["copied"]) == (always, 0.25, 0.25)
