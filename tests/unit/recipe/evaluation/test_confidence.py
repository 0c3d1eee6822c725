"""Ranking and confidence taken apart, against hand-worked rewards and an IoU of the test's own."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.evaluation.confidence import (
    describe,
    fixed_weight_reward,
    majority_vote,
    ranking,
    sharpened_reward,
    split_reward,
)
from recipe.evaluation.measures import summarise
from rewards.iou import weighted_iou
from rewards.labels import LABELS

MELD = LABELS["meld"]
answers = st.dictionaries(
    st.sampled_from(MELD), st.floats(0.01, 1.0, allow_nan=False), min_size=1, max_size=3
)


def test_the_twin_by_hand():
    # One-hot: w / (2 - w) with w = .7, .2, .1 on the right label, whatever the answer's own weights.
    for place, expected in enumerate((0.7 / 1.3, 0.2 / 1.8, 0.1 / 1.9)):
        order = ["fear", "anger"]
        order.insert(place, "joy")
        said = dict(zip(order, (0.9, 0.5, 0.4), strict=True))
        assert fixed_weight_reward(said, {"joy": 1.0}, MELD) == pytest.approx(expected + 0.1)
    assert fixed_weight_reward({"fear": 1.0}, {"joy": 1.0}, MELD) == pytest.approx(0.1)
    assert fixed_weight_reward({}, {"joy": 1.0}, MELD) == 0.0
    # Soft: P = .7 joy, .2 fear, .1 anger; L = .6 joy, .4 fear: (.6 + .2) / (.7 + .4 + .1).
    said, gold = {"joy": 0.5, "fear": 0.4, "anger": 0.1}, {"joy": 0.6, "fear": 0.4}
    assert fixed_weight_reward(said, gold, MELD) == pytest.approx(0.8 / 1.2 + 0.1)
    with pytest.raises(ValueError):
        fixed_weight_reward({"bliss": 1.0}, gold, MELD)


@given(answers, st.sampled_from(MELD))
def test_being_surer_or_naming_fewer_labels_does_not_move_the_twin(said, gold):
    twin = fixed_weight_reward(said, {gold: 1.0}, MELD)
    surer = {label: w**3 for label, w in said.items()}
    assert fixed_weight_reward(surer, {gold: 1.0}, MELD) == pytest.approx(twin)
    first = ranking(said, MELD)[0]
    fewer = fixed_weight_reward({first: 1.0}, {gold: 1.0}, MELD)
    assert fewer <= twin + 1e-12 and (first != gold or fewer == pytest.approx(twin))


@given(answers, answers)
def test_sharpened_answers_earn_what_those_weights_earn(said, gold):
    first = ranking(said, MELD)[0]
    one = sharpened_reward(said, gold, MELD, (1.0,))
    assert one == pytest.approx(weighted_iou({first: 1.0}, gold) + 0.1)
    three = sharpened_reward(said, gold, MELD, (0.9, 0.1, 0.1))
    by_hand = {label: 0.9 if label == first else 0.1 for label in said}
    assert three == pytest.approx(weighted_iou(by_hand, gold) + 0.1)
    assert sharpened_reward({}, gold, MELD, (1.0,)) == 0.0


def test_equal_weights_are_ranked_as_the_corpus_orders_its_labels():
    assert ranking({"joy": 0.3, "surprise": 0.3, "anger": 0.9}, MELD) == ["anger", "surprise", "joy"]


def test_an_answers_parts():
    parts = describe({"joy": 0.6, "fear": 0.2}, {"fear": 0.9, "joy": 0.1}, MELD)
    assert parts["top_weight"] == pytest.approx(0.75) and parts["gold_weight"] == pytest.approx(0.25)
    assert parts["named"] == 2
    assert not any(describe({}, {"joy": 1.0}, MELD).values())


def record(said: dict, gold: str = "joy", **more) -> dict:
    pred = max(said, key=said.get) if said else "(invalid)"
    return {
        "corpus": "meld", "gold": gold, "pred": pred, "acc": float(pred == gold), "valid": float(bool(said)),
        "score": weighted_iou(said, {gold: 1.0}) + 0.1 if said else 0.0, "iou": 0.0, "reason": "",
        "parsed": json.dumps({"last_emotions": said}),
    } | more  # fmt: skip


def test_a_surer_policy_earns_more_and_its_twin_does_not():
    """The finding that the split is for: the same rankings, weights .9 instead of .5."""
    shy = [record({"joy": 0.5, "fear": 0.3, "anger": 0.2}), record({"fear": 0.5, "joy": 0.3, "anger": 0.2})]
    sure = [record({"joy": 0.9, "fear": 0.1, "anger": 0.1}), record({"fear": 0.9, "joy": 0.1, "anger": 0.1})]
    before, after = (summarise(part)["meld"] for part in (shy, sure))
    assert after["reward"] > before["reward"] and after["top_weight"] > before["top_weight"]
    assert after["twin"] == pytest.approx(before["twin"]) and after["accuracy"] == before["accuracy"]
    assert before["sharp_three"] == pytest.approx(after["reward"])  # all of its gain is confidence
    assert after["majority_share"] == 0.5


def test_a_soft_label_and_a_broken_answer_in_the_means():
    rows = [record({"joy": 1.0}, label={"joy": 0.6, "fear": 0.4}), record({})]
    found = split_reward(rows, MELD)
    assert found["twin"] == pytest.approx((0.6 / (0.7 + 0.4 + 0.3) + 0.1) / 2)
    assert found["sharp_one"] == pytest.approx((0.6 / 1.4 + 0.1) / 2)
    assert (found["top_weight"], found["named"], found["gold_weight"]) == (1.0, 1.0, 0.5)
    nothing = split_reward([record({})], MELD)
    assert nothing["twin"] == 0.0 and nothing["top_weight"] is None and nothing["named"] is None
    with pytest.raises(ValueError, match="no records"):
        split_reward([], MELD)


def test_the_majority_votes():
    said = [{"joy": 1.0}, {"fear": 0.6, "joy": 0.4}, {"fear": 0.9}, {}]
    assert majority_vote(said, MELD) == "fear"
    tied = [{"joy": 1.0}, {"fear": 0.6, "joy": 0.4}]  # one vote each, joy has 1.4 of the weight
    assert majority_vote(tied, MELD) == "joy"
    assert majority_vote([{"joy": 1.0}, {"fear": 1.0}], MELD) == "fear"  # the corpus's order
    assert majority_vote([{}, {}], MELD) is None
