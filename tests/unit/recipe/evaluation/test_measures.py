"""The measures on hand-made records, against formulas of the test's own."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.evaluation.measures import (
    INVALID,
    MEASURES,
    calibration,
    confidence,
    confusion,
    label_scores,
    summarise,
)
from rewards.labels import LABELS

MELD = LABELS["meld"]


def record(gold: str, pred: str, corpus: str = "meld", **more):
    valid = pred != INVALID
    return {
        "corpus": corpus,
        "gold": gold,
        "pred": pred,
        "acc": float(gold == pred),
        "valid": float(valid),
        "score": 1.1 if gold == pred else 0.1 * valid,
        "iou": float(gold == pred),
        "reason": "" if valid else "no_dict",
        "answer": "" if valid else "I cannot say.",
        "parsed": json.dumps({"last_emotions": {pred: 1.0} if valid else {}}),
        **more,
    }


def f1_scores(pairs, labels) -> dict[str, float]:
    """F1 per label from its definition; 0 where nothing is found."""
    scores = {}
    for label in labels:
        hits = sum(g == p == label for g, p in pairs)
        missed = sum(g == label != p for g, p in pairs)
        wrong = sum(p == label != g for g, p in pairs)
        scores[label] = 2 * hits / (2 * hits + missed + wrong) if hits else 0.0
    return scores


def test_measures_by_hand():
    # joy: 2 hits, 1 missed, 1 wrong, so F1 2/3 of 3 rows; fear: 0 hits of 1 row; anger: F1 1 of 1 row.
    pairs = [("joy", "joy"), ("joy", "joy"), ("joy", INVALID), ("fear", "joy"), ("anger", "anger")]
    table = summarise([record(*pair) for pair in pairs])
    found = {k: table["meld"][k] for k in ("n", *MEASURES, "reasons")}
    assert found == {
        "n": 5,
        "accuracy": pytest.approx(3 / 5),
        "weighted_f1": pytest.approx((3 * 2 / 3 + 0 + 1) / 5),
        "macro_f1": pytest.approx((2 / 3 + 0 + 1) / 7),  # over all seven labels of MELD
        "valid": pytest.approx(4 / 5),
        "reward": pytest.approx((3 * 1.1 + 0.1 + 0) / 5),
        "iou": pytest.approx(3 / 5),
        "reasons": {"no_dict": 1},
    }


def test_an_invalid_answer_may_be_read_as_the_nearest_label():
    said = [
        record("joy", "joy"),
        record("joy", INVALID, answer="Joy, clearly."),
        record("fear", INVALID, answer="joy"),
        record("fear", "fear"),
    ]
    table = summarise(said)
    assert table["meld"]["accuracy"] == 2 / 4 and table["meld"]["accuracy_nearest"] == 3 / 4
    pairs = [("joy", "joy"), ("joy", "joy"), ("fear", "joy"), ("fear", "fear")]
    f1 = f1_scores(pairs, MELD)
    assert table["meld"]["weighted_f1_nearest"] == pytest.approx((2 * f1["joy"] + 2 * f1["fear"]) / 4)
    assert table["avg"]["accuracy_nearest"] == 3 / 4
    kept = summarise([record("joy", "joy"), record("fear", "joy")])["meld"]
    assert (kept["accuracy_nearest"], kept["weighted_f1_nearest"]) == (kept["accuracy"], kept["weighted_f1"])


def test_an_invalid_answer_counts_as_wrong_for_every_measure():
    good = summarise([record("joy", "joy"), record("joy", "joy")])["meld"]
    assert (good["accuracy"], good["weighted_f1"], good["valid"]) == (1.0, 1.0, 1.0)
    half = summarise([record("joy", "joy"), record("joy", INVALID)])["meld"]
    assert (half["accuracy"], half["valid"]) == (0.5, 0.5)
    assert half["weighted_f1"] == pytest.approx(2 / 3)  # recall 1/2, precision 1
    none = summarise([record("joy", INVALID)])["meld"]
    assert (none["accuracy"], none["weighted_f1"], none["macro_f1"], none["valid"], none["reward"]) == (
        0,
    ) * 5


def test_the_average_is_over_corpora_not_rows():
    records = [record("joy", "joy")] * 9 + [
        record("sad", "happy", "iemocap"),
        record("sad", INVALID, "iemocap"),
    ]
    table = summarise(records)
    assert list(table) == ["iemocap", "meld", "avg"]
    assert (table["iemocap"]["n"], table["meld"]["n"], table["avg"]["n"]) == (2, 9, 11)
    assert (table["iemocap"]["accuracy"], table["meld"]["accuracy"]) == (0.0, 1.0)
    for measure in ("accuracy", "weighted_f1", "macro_f1", "valid", "reward", "iou"):
        mean = (table["iemocap"][measure] + table["meld"][measure]) / 2
        assert table["avg"][measure] == pytest.approx(mean)
    assert table["avg"]["reasons"] == {"no_dict": 1}


@given(st.lists(st.tuples(st.sampled_from(MELD), st.sampled_from([*MELD, INVALID])), min_size=1, max_size=40))
def test_f1_against_its_definition(pairs):
    table = summarise([record(*pair) for pair in pairs])["meld"]
    scores = f1_scores(pairs, MELD)
    assert table["macro_f1"] == pytest.approx(sum(scores.values()) / 7)
    assert table["weighted_f1"] == pytest.approx(sum(scores[gold] for gold, _ in pairs) / len(pairs))
    assert table["accuracy"] == pytest.approx(sum(g == p for g, p in pairs) / len(pairs))


def test_scores_of_every_label_by_hand():
    gold = ["joy", "joy", "joy", "fear", "fear", "anger"]
    pred = ["joy", "joy", "fear", "fear", INVALID, "joy"]
    scores = label_scores(gold, pred, ("joy", "fear", "anger", "disgust"))
    third = pytest.approx(2 / 3)
    assert scores["joy"] == {"precision": third, "recall": third, "f1": third, "support": 3}
    assert scores["fear"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert scores["anger"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert scores["disgust"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_the_confusion_matrix_counts_every_answer_once():
    table = confusion(["joy", "joy", "fear"], ["joy", INVALID, "joy"], ("fear", "joy"))
    assert table == {
        "gold": ["fear", "joy"],
        "pred": ["fear", "joy", INVALID],
        "counts": [[0, 1, 0], [0, 1, 1]],
    }
    with pytest.raises(ValueError, match="happy"):
        confusion(["joy"], ["happy"], ("fear", "joy"))


def test_confidence_is_the_heaviest_weight_of_the_normalised_answer():
    def parsed(weights):
        return {"valid": 1.0, "parsed": json.dumps({"last_emotions": weights})}

    assert confidence(parsed({"joy": 0.3, "fear": 0.1})) == pytest.approx(0.75)
    assert confidence(parsed({"joy": 0.2})) == 1.0
    assert confidence({"valid": 0.0, "parsed": json.dumps({"last_emotions": {}})}) is None


def test_calibration_by_hand():
    # Bin (0.5, 0.6]: 0.55 and 0.6, one right: |0.5 - 0.575| = 0.075; bin (0.9, 1]: 1.0, twice right
    # and twice wrong: 0.5. ECE = (2 * 0.075 + 4 * 0.5) / 6.
    found = calibration([0.55, 0.6, 1.0, 1.0, 1.0, 1.0], [True, False, True, True, False, False])
    assert found["ece"] == pytest.approx((2 * 0.075 + 4 * 0.5) / 6)
    assert [b["n"] for b in found["bins"]] == [0, 0, 0, 0, 0, 2, 0, 0, 0, 4]
    assert (found["bins"][5]["low"], found["bins"][5]["high"]) == (0.5, 0.6)
    assert (found["bins"][5]["confidence"], found["bins"][5]["accuracy"]) == (pytest.approx(0.575), 0.5)
    assert found["bins"][0]["accuracy"] is None
    assert calibration([], []) == {"ece": None, "bins": calibration([], [])["bins"]}


@pytest.mark.parametrize("tenths", range(1, 11))
def test_a_bin_holds_its_upper_edge(tenths):
    found = calibration([tenths / 10, tenths / 10 + 1e-15], [True, True])["bins"]
    assert [b["n"] for b in found] == [2 * (i == tenths - 1) for i in range(10)]


@given(st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=1, max_size=30))
def test_the_ece_is_the_mean_gap_of_the_bins(pairs):
    bins: dict[int, list] = {}
    for c, hit in pairs:
        bins.setdefault(math.ceil(round(c, 12) * 10), []).append((c, hit))
    gaps = [abs(sum(c for c, _ in part) - sum(hit for _, hit in part)) for part in bins.values()]
    assert calibration(*zip(*pairs, strict=True))["ece"] == pytest.approx(sum(gaps) / len(pairs))


def test_a_summary_holds_labels_confusion_and_calibration():
    half = json.dumps({"last_emotions": {"joy": 0.5, "fear": 0.5}})
    rows = [record("joy", "joy"), record("fear", "joy", parsed=half), record("joy", INVALID)]
    table = summarise([*rows, record("sad", INVALID, "iemocap")])
    assert json.loads(json.dumps(table)) == table
    assert table["meld"]["labels"]["joy"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert sum(map(sum, table["meld"]["confusion"]["counts"])) == 3
    assert table["meld"]["ece"] == pytest.approx((0 + 0.5) / 2)  # of the two valid answers
    assert table["iemocap"]["ece"] is None and table["avg"]["ece"] == table["meld"]["ece"]
