"""From answers on disk to scored records."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from recipe.evaluation import generate
from recipe.evaluation.answers import read_answers, score_answers
from recipe.evaluation.measures import INVALID, summarise


def answer(last: str) -> str:
    return f"<think>a</think>{{'last_emotions': {last}, 'my_emotions': {{'joy': 1}}, 'my_output': 'Hm.'}}"


def test_answers_are_scored(make_prompt_row):
    rows = [make_prompt_row(name, label={"joy": 1.0, "fear": None}) for name in ("right", "wrong", "broken")]
    answers = {
        "wrong": [answer("{'fear': 0.6, 'joy': 0.2}")],
        "right": [answer("{'fear': 0.2, 'joy': 0.6}")],
        "broken": [answer("{}")],
        "of another run": [""],
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
    assert right["answer"] == answers["right"][0]
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
        score_answers(rows, {"a": [""], "c": []})
    assert score_answers([], {}) == []


def test_answers_are_read_from_all_finished_parts(tmp_path):
    for start, ids in ((0, ["a", "b"]), (256, ["c"])):
        table = pa.Table.from_pylist([{"row_id": i, "answers": [f"answer {i}"]} for i in ids])
        pq.write_table(table, tmp_path / f"part_{start:08d}.parquet")
    (tmp_path / "part_00000512.tmp").write_bytes(b"unfinished")
    assert read_answers(str(tmp_path)) == {i: [f"answer {i}"] for i in "abc"}
    assert read_answers(tmp_path / "none") == {}


def test_answers_of_another_checkpoint_are_no_answers(tmp_path, monkeypatch):
    """What was answered before a checkpoint was made anew is answered again, part by part."""
    rows = [{"extra_info": {"row_id": i}} for i in "abc"]
    asked = []

    @contextmanager
    def answering(config, checkpoint, sampling):
        def answer(batch):
            asked.extend(row["extra_info"]["row_id"] for row in batch)
            yield {row["extra_info"]["row_id"]: [f"{checkpoint} says"] for row in batch}

        yield answer

    def generated(model: str, key: str) -> dict[str, list[str]]:
        asked.clear()
        job = {"data": {"test": ""}, "out": str(tmp_path), "models": {"cold": model}, "of": {"cold": key}}
        settings = {"batch_rows": 2, "samples": 1, "temperature": 0.7, "entropy_rows": 0}
        generate.generate_answers(OmegaConf.create({"job": job, "evaluate": settings}))
        return read_answers(tmp_path / "cold/test", key)

    monkeypatch.setattr(generate, "answering", answering)
    monkeypatch.setattr(generate, "read_rows", lambda _: rows)
    assert generated("one", "1") == {i: ["one says"] for i in "abc"} and asked == ["a", "b", "c"]
    assert generated("one", "1") and asked == []
    (tmp_path / "cold/entropy.json").write_text("{}")  # of those answers
    assert generated("two", "2") == {i: ["two says"] for i in "abc"} and asked == ["a", "b", "c"]
    assert not (tmp_path / "cold/entropy.json").exists()
    assert read_answers(tmp_path / "cold/test", "1") == {}


def test_several_answers_vote(make_prompt_row):
    row = make_prompt_row("a", label={"joy": 1.0})
    said = ["{'joy': 1}", "{'fear': 1}", "{}", "{'joy': 0.6, 'fear': 0.4}"]
    (record,) = score_answers([row], {"a": [answer(text) for text in said]})
    assert (record["pred"], record["acc"], record["valid"], record["reason"]) == ("joy", 1.0, 1.0, "")
    assert record["votes"] == {"joy": 2, "fear": 1}
    # By hand: R is 1.1, 0.1, 0 and 0.6 / 1.4 + 0.1.
    assert record["score"] == pytest.approx((1.1 + 0.1 + 0 + 0.6 / 1.4 + 0.1) / 4)
    weights = json.loads(record["parsed"])["last_emotions"]
    assert weights == {"fear": pytest.approx(1.4 / 3), "joy": pytest.approx(1.6 / 3)}
    assert summarise([record])["meld"]["accuracy"] == 1


@pytest.mark.parametrize(
    ("said", "winner"),
    [
        (["{'joy': 1}", "{'fear': 0.6, 'joy': 0.4}"], "joy"),  # a vote each, joy has 1.4 of the weight
        (["{'joy': 1}", "{'fear': 1}"], "fear"),  # nothing decides but the corpus's order
        (["{'joy': 1}", "{'fear': 0.6, 'joy': 0.4}", "{'fear': 0.6, 'joy': 0.4}"], "fear"),
    ],
)
def test_ties_of_a_vote(make_prompt_row, said, winner):
    (record,) = score_answers([make_prompt_row("a")], {"a": [answer(text) for text in said]})
    assert record["pred"] == winner


def test_a_vote_without_a_valid_answer_is_invalid(make_prompt_row):
    (record,) = score_answers([make_prompt_row("a")], {"a": [answer("{}"), ""]})
    assert (record["pred"], record["acc"], record["valid"], record["score"]) == (INVALID, 0, 0, 0)
    assert record["reason"] == "no_emotion" and record["votes"] == {}
