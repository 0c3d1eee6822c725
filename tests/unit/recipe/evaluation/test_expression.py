"""An independent reader of the replies: agreement by hand with a reader that is known."""

from __future__ import annotations

import json

import pytest

from recipe.evaluation.baselines import Reader, readers
from recipe.evaluation.expression import agreement

TEXTS = ["oh great wonderful", "great wonderful day", "so sorry sad", "sad sorry news"] * 5
GOLD = ["joy", "joy", "sadness", "sadness"] * 5


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader.fit(TEXTS, GOLD)


def record(reply: str, mine: dict, dialogue: str, valid: bool = True, corpus: str = "meld") -> dict:
    return {
        "corpus": corpus, "dialogue_id": dialogue, "valid": float(valid),
        "parsed": json.dumps({"my_emotions": mine, "my_output": reply}),
    }  # fmt: skip


def test_the_reader_reads(reader):
    p = reader.probabilities(["what a wonderful, great thing", "sad and sorry"])
    assert reader.labels == ["joy", "sadness"] and p.shape == (2, 2)
    assert p[0, 0] > 0.7 and p[1, 1] > 0.7 and p.sum(axis=1) == pytest.approx(1)


def test_agreement_and_kappa_by_hand(reader):
    records = [
        record("wonderful", {"joy": 0.9, "sadness": 0.1}, "d1"),  # agrees
        record("so sad", {"sadness": 1.0}, "d1"),  # agrees
        record("great", {"sadness": 1.0}, "d2"),  # does not
        record("sorry", {"sadness": 1.0, "curiosity": 1.0}, "d2"),  # agrees, the strange word aside
        record("sorry", {"curiosity": 1.0}, "d2"),  # nothing to compare
        record("", {}, "d2", valid=False),
        record("great", {"Joyful": 1.0}, "d3", corpus="emorynlp"),  # nobody reads these
    ]
    found = agreement(records, {"meld": reader})
    assert found.keys() == {"meld"} and found["meld"]["n"] == 4
    assert found["meld"]["agreement"].mean == 0.75
    assert found["meld"]["agreement"].interval == (0.5, 1.0)  # dialogues: 1.0 and 0.5
    # felt: joy 1, sadness 3; read: joy 2, sadness 2; by chance (1 * 2 + 3 * 2) / 16 = 1/2.
    assert found["meld"]["kappa"] == pytest.approx(0.5) and found["meld"]["majority"] == 0.75
    assert agreement(records[4:6], {"meld": reader}) == {}
    same = agreement([record("great", {"joy": 1.0}, "d1")] * 2, {"meld": reader})["meld"]
    assert same["kappa"] is None and same["agreement"].interval is None


def test_readers_learn_from_gold_rows_alone(make_prompt_row):
    people = {"persona": "Bob", "personas": ("Ann", "Bob")}
    rows = [
        make_prompt_row(str(i), turns=(("Ann", text),), label={gold: 1.0}, **people)
        for i, (text, gold) in enumerate(zip(TEXTS, GOLD, strict=True))
    ]
    own = [
        make_prompt_row(f"s{i}", turns=(("Ann", "great"),), lineage={"origin": "self_play"}, **people)
        for i in range(50)
    ]
    (found,) = readers([*rows, *own]).values()
    assert found.labels == ["joy", "sadness"]  # neutral is the model's own
    assert readers(own) == {}
