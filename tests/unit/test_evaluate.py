"""From answers on disk to scored records."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipe.evaluate import read_answers, score_answers
from recipe.measures import INVALID, summarise


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
