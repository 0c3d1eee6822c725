"""p(gold) by hand."""

from __future__ import annotations

import json

import pytest

from recipe.evaluation.gold_probability import gold_probability


def record(dialogue: str, gold: str, said: dict[str, float], corpus: str = "meld", **more) -> dict:
    parsed = json.dumps({"last_emotions": said})
    return {"corpus": corpus, "dialogue_id": dialogue, "gold": gold, "parsed": parsed, **more}


def test_weights_are_normalised_and_a_broken_answer_puts_nothing_on_gold():
    found = gold_probability(
        [
            record("1", "joy", {"joy": 0.9, "anger": 0.3}),  # 0.75
            record("1", "joy", {"anger": 1.0}),
            record("2", "joy", {}),
            record("2", "anger", {"joy": 0.5, "anger": 0.5}, label={"joy": 0.4, "anger": 0.6}),
            record("1", "Mad", {"Mad": 0.5}, corpus="emorynlp"),
        ]
    )
    assert found["meld"].mean == pytest.approx((0.75 + 0 + 0 + 0.5) / 4)
    assert found["meld"].interval == pytest.approx((0.25, 0.375))  # both dialogues, or one of them twice
    assert (found["emorynlp"].mean, found["emorynlp"].interval) == (1.0, None)
    # Dialogue 1 of two corpora is two dialogues.
    assert (found["all"].mean, found["all"].clusters) == (pytest.approx(2.25 / 5), 3)
    assert gold_probability([]) == {}
