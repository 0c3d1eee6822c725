"""The paper's measures on hand-made records, against formulas of the test's own."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.evaluate import INVALID, read_answers, score_answers, summarise
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
    assert table["meld"] == {
        "n": 5,
        "accuracy": pytest.approx(3 / 5),
        "weighted_f1": pytest.approx((3 * 2 / 3 + 0 + 1) / 5),
        "macro_f1": pytest.approx((2 / 3 + 0 + 1) / 7),  # over all seven labels of MELD
        "valid": pytest.approx(4 / 5),
        "reward": pytest.approx((3 * 1.1 + 0.1 + 0) / 5),
        "iou": pytest.approx(3 / 5),
        "reasons": {"no_dict": 1},
    }


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


# ---- from answers to records ----


def answer(last: str) -> str:
    return f"<think>a</think>{{'last_emotions': {last}, 'my_emotions': {{'joy': 1}}, 'my_output': 'Hm.'}}"


def test_answers_are_scored(make_prompt_row):
    rows = [make_prompt_row(name, label={"joy": 1.0, "fear": None}) for name in ("right", "wrong", "broken")]
    answers = {
        "wrong": answer("{'fear': 0.6, 'joy': 0.2}"),
        "right": answer("{'fear': 0.2, 'joy': 0.6}"),
        "broken": answer("{}"),
        "of another run": "",
    }
    right, wrong, broken = score_answers(rows, answers)
    assert {
        k: right[k] for k in ("row_id", "corpus", "dialogue_id", "gold", "pred", "acc", "valid", "reason")
    } == {
        "row_id": "right",
        "corpus": "meld",
        "dialogue_id": "d1",
        "gold": "joy",
        "pred": "joy",
        "acc": 1.0,
        "valid": 1.0,
        "reason": "",
    }
    assert (right["score"], right["iou"]) == (pytest.approx(0.7), pytest.approx(0.6))  # 0.75 / 1.25
    assert right["answer"] == answers["right"]
    assert (wrong["pred"], wrong["acc"], wrong["score"]) == (
        "fear",
        0.0,
        pytest.approx(0.1 + 1 / 7),
    )  # 0.25 / 1.75
    assert (broken["pred"], broken["acc"], broken["score"], broken["reason"]) == (
        INVALID,
        0.0,
        0.0,
        "no_emotion",
    )
    table = summarise([right, wrong, broken])
    assert table["meld"]["accuracy"] == pytest.approx(1 / 3)
    assert table["meld"]["reasons"] == {"no_emotion": 1}


def test_missing_answers_raise(make_prompt_row):
    rows = [make_prompt_row(name) for name in ("a", "b", "c")]
    with pytest.raises(ValueError, match="2 prompts have no answer, the first is b"):
        score_answers(rows, {"a": ""})
    assert score_answers([], {}) == []


def test_answers_are_read_from_all_finished_parts(tmp_path):
    for start, ids in ((0, ["a", "b"]), (256, ["c"])):
        table = pa.Table.from_pylist([{"row_id": i, "answer": f"answer {i}"} for i in ids])
        pq.write_table(table, tmp_path / f"part_{start:08d}.parquet")
    (tmp_path / "part_00000512.tmp").write_bytes(b"unfinished")
    assert read_answers(str(tmp_path)) == {i: f"answer {i}" for i in "abc"}
    assert read_answers(tmp_path / "none") == {}
