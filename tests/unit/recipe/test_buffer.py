"""Algorithm 1's data loop: which rollout enters B, as which row, and which rows stay."""

from __future__ import annotations

import copy
import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from data_prep.rows import SCHEMA, ground_truth, read_rows, write_rows
from recipe.buffer import (
    best_rollouts,
    grow,
    read_rollouts,
    scored,
    self_play_row,
)
from tests.unit.recipe.buffer_rows import FELT, TEMPLATES, grown, rollout


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"score": 0.9, "r2": 0.0, "step": 1, "index": 7}, {"score": 0.8, "r2": 1.0, "step": 9, "index": 0}),
        ({"r2": 2 / 3, "step": 1, "index": 7}, {"r2": 1 / 3, "step": 9, "index": 0}),
        ({"step": 3, "index": 7}, {"step": 2, "index": 0}),
        ({"index": 2}, {"index": 3}),
        ({"index": 9}, {"index": 10}),
    ],
)
def test_the_best_rollout(better, worse):
    for pair in ([better, worse], [worse, better]):
        best = best_rollouts([rollout(**kwargs) for kwargs in pair], 0.1)
        assert best == {"meld:d1:3": rollout(**better)}


def test_every_prompt_has_its_own_best():
    rollouts = [
        rollout("a", 0.3),
        rollout("b", 0.5),
        rollout("a", 0.4, index=1),
        rollout("c", 0.1),
        rollout("d", 0.0),
    ]
    assert {k: v["score"] for k, v in best_rollouts(rollouts, 0.1).items()} == {"a": 0.4, "b": 0.5}


def test_min_reward_is_strict():
    assert best_rollouts([rollout(score=0.1)], 0.1) == {}
    assert best_rollouts([rollout(score=0.0 + 0.1)], 0.1) == {}  # a valid answer with IoU 0
    assert list(best_rollouts([rollout(score=0.1000001)], 0.1)) == ["meld:d1:3"]
    assert best_rollouts([rollout(score=0.7)], 0.7) == {}
    assert list(best_rollouts([rollout(score=0.0)], -1.0)) == ["meld:d1:3"]


def expert(row: dict, reward: float | None) -> dict:
    return row | {
        "response": "the expert's",
        "response_from": {"source": "wise", "iteration": 0, "reward": reward},
    }


def test_grow(make_prompt_row):
    buffer = [
        make_prompt_row("a"),
        expert(make_prompt_row("b", turns=(("Ann", "No."), ("Bob", "Why?"))), 0.6),
        make_prompt_row("c", (("Cyd", "Ah."),)),
    ]
    kept_before = copy.deepcopy(buffer)
    rollouts = [
        rollout("a", 0.5),
        rollout("a", 0.9, index=1, reply="Best."),
        rollout("b", 0.1),
        rollout("c", 0.0),
    ]
    kept, counts = grown(buffer, rollouts)
    assert [r["extra_info"]["row_id"] for r in kept[:3]] == ["a", "b", "c"]
    assert [r["response"] for r in kept] == [rollouts[1]["response"], "the expert's", None, None]
    source, taken = kept[0]["response_from"], rollouts[1]
    assert source.pop("model") and source == {
        "source": "rollout", "iteration": 1, "step": taken["step"], "rollout_index": taken["rollout_index"],
        "reward": taken["score"], "r2": taken["r2"],
    }  # fmt: skip
    assert kept[1] == buffer[1]  # untouched
    assert kept[3]["extra_info"]["parent"] == "a" and kept[3]["extra_info"]["reward"] == 0.9
    assert kept[3]["extra_info"]["context"][-1] == {"speaker": "Bob", "text": "Best."}
    assert counts == {
        "prompts": 3, "best_responses": 1, "responses_replaced": 1, "responses_withdrawn": 0,
        "self_play_added": 1, "dropped_as_same_reply": 0, "dropped_by_mix": 0, "rows": 4, "with_response": 2,
    }  # fmt: skip
    assert buffer == kept_before  # the old buffer is left alone


@pytest.mark.parametrize(
    ("own", "new", "kept"),
    [
        (0.6, 0.5, "own"),  # a right expert's answer is not overwritten by a worse rollout
        (0.6, 0.7, "new"),
        (0.6, 0.6, "new"),  # as good: the later one, which has an r2
        (0.3, 0.5, "new"),
        (0.3, None, "none"),  # the expert names a wrong label: only the prompt stays
        (0.3, 0.35, "none"),
        (0.5, None, "own"),
        (None, 0.35, "none"),
    ],
)
def test_the_best_response_ever_above_the_threshold(make_prompt_row, own, new, kept):
    row = make_prompt_row("a") if own is None else expert(make_prompt_row("a"), own)
    chosen = rollout("a", new or 0.0)
    (after, *_), _ = grown([row], [] if new is None else [chosen], min_reward=0.4)
    assert after["response"] == {"own": "the expert's", "new": chosen["response"], "none": None}[kept]
    assert (after["response_from"] is None) == (kept == "none")


def test_an_expert_of_an_older_run_is_scored_when_it_is_compared(make_prompt_row):
    said = "{'last_emotions': {'joy': 1.0}, 'my_emotions': {'joy': 1.0}, 'my_output': 'Good.'}"
    for label, stays in (({"joy": 1.0}, True), ({"anger": 1.0}, False)):
        row = expert(make_prompt_row("a", label=label), None) | {"response": f"<think>a</think>{said}"}
        ((after, *_), _) = grown([row], [], min_reward=0.4)
        assert (after["response"] is not None) is stays


def test_a_group_is_scored_as_the_trainer_scores_it(make_prompt_row):
    row = make_prompt_row(label={"joy": 1.0})

    def answer(last: str) -> str:
        return f"<think>a</think>{{'last_emotions': {last}, 'my_emotions': {{'joy': 1}}, 'my_output': 'So.'}}"

    texts = [answer("{'joy': 1.0}"), answer("{'joy': 0.5, 'anger': 0.5}"), "nonsense"]
    group = scored(row, texts)
    # By hand (Eq. 10): one-hot label and weight p give p / (2 - p). E_top3 is joy, anger: r2 1/3, 2/3, 0.
    assert [s["score"] for s in group] == pytest.approx([1.1, 0.1 + 0.5 / 1.5, 0.0])
    assert [s["r2"] for s in group] == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert [s["rollout_index"] for s in group] == [0, 1, 2] and group[0]["response"] == texts[0]


def test_one_reply_does_not_fill_b(make_prompt_row):
    buffer = [make_prompt_row(f"p{i}", turns=(("Ann", f"Line {i}."),)) for i in range(12)]
    rollouts = [rollout(f"p{i}", reply="So." if i else "Other.", mine={"neutral": 1.0}) for i in range(12)]
    kept, counts = grown(buffer, rollouts, same_reply=0.02)
    replies = Counter(
        r["extra_info"]["context"][-1]["text"] for r in kept if r["extra_info"]["origin"] == "self_play"
    )
    assert replies == {"So.": 2, "Other.": 1} and counts["dropped_as_same_reply"] == 9


def test_rows_are_not_added_twice(make_prompt_row):
    twins = [make_prompt_row("a"), make_prompt_row("b")]  # two prompts with one content
    kept, counts = grown(twins, [rollout("a", mine=FELT), rollout("b", mine=FELT)])
    assert counts["self_play_added"] == 1 and counts["duplicates"] == 1
    again, counts = grown(kept, [rollout("a", reply=" Good  for you! ", mine=FELT)], iteration=2)
    assert counts["duplicates"] == 1 and len(again) == len(kept)
    more, counts = grown(kept, [rollout("a", reply="Really?", mine=FELT)], iteration=2)
    assert counts["self_play_added"] == 1 and len(more) == len(kept) + 1
    assert len({r["extra_info"]["row_id"] for r in more}) == len(more)


def test_strangers_raise(make_prompt_row):
    with pytest.raises(ValueError, match="not in the buffer: zzz"):
        grown([make_prompt_row("a")], [rollout("a"), rollout("zzz")])


def test_the_mix_limits_each_origin(make_prompt_row):
    buffer = [make_prompt_row(f"p{i}", turns=(("Ann", f"Line {i}."),)) for i in range(20)]
    rollouts = [rollout(f"p{i}", mine={"neutral": 1.0}) for i in range(20)]  # as the original rows
    kept, counts = grown(buffer, rollouts, mix={"original": 6, "self_play": 3})
    assert Counter(r["extra_info"]["origin"] for r in kept) == {"original": 6, "self_play": 3}
    assert (counts["dropped_by_mix"], counts["rows"]) == (31, 9)
    everything, _ = grown(buffer, rollouts, mix={"original": 20, "self_play": 20})
    places = [everything.index(row) for row in kept]
    assert places == sorted(places)  # order kept
    assert grown(buffer, rollouts, mix={"original": 6, "self_play": 3})[0] == kept
    assert grown(buffer, rollouts, mix={"original": 6, "self_play": 3}, seed=2)[0] != kept
    assert len(grown(buffer, rollouts, mix={"original": None, "self_play": 0})[0]) == 20


def test_the_draw_is_recorded(make_prompt_row):
    buffer = [
        make_prompt_row(f"p{i}", turns=(("Ann", f"Line {i}."),), label={"joy" if i % 2 else "fear": 1.0})
        for i in range(8)
    ]
    best = {f"p{i}": rollout(f"p{i}", mine={"joy": 0.9, "fear": 0.2}) for i in range(8)}
    lineage = {"iteration": 1, "model": "abc"}
    played = [self_play_row(row, best[f"p{i}"], TEMPLATES, **lineage) for i, row in enumerate(buffer)]
    mix = {"original": 4, "self_play": 3}
    kept, _, draw = grow(buffer, best, played, min_reward=0.1, same_reply=1.0, seed=5, mix=mix, **lineage)
    assert draw == {
        "limit": mix,
        "seed": 5,
        "before": {
            "original": {"meld": {"fear": 4, "joy": 4}},
            "self_play": {"meld": {"joy": 8}},
        },
        "after": {"original": {"meld": {"fear": 2, "joy": 2}}, "self_play": {"meld": {"joy": 2}}},
        "row_ids": [r["extra_info"]["row_id"] for r in kept],
    }


def test_the_first_buffer_s_draws_are_recorded(tmp_path, make_prompt_row):
    from recipe.run.run import Run
    from recipe.steps import seed

    config = {
        "prompts": {"dir": "compact"},
        "expert": {"kind": "offline"},
        "run": {"seed": 3},
        "flywheel": {"mix": {"original": 6, "self_play": 5}, "cold_start_rows": 2, "min_reward": 0.4},
        "sft": {"data": {"train_batch_size": 2}},
    }
    rows = [make_prompt_row(f"p{i}", turns=(("Ann", f"Line {i}."),)) for i in range(9)]
    write_rows(rows, tmp_path / "data/train.parquet")
    work = tmp_path / "work"
    work.mkdir()
    seed.fill(Run(OmegaConf.create(config), tmp_path), work)
    draws = json.loads((work / "draw.json").read_text())
    kept = read_rows(work / "buffer.parquet")
    assert draws["mix"]["row_ids"] == [r["extra_info"]["row_id"] for r in kept] and len(kept) == 6
    assert draws["mix"]["limit"] == {"original": 6, "self_play": 5} and draws["mix"]["seed"] == 3
    answered = [r["extra_info"]["row_id"] for r in kept if r["response"]]
    assert draws["cold_start"]["row_ids"] == answered and draws["cold_start"]["limit"] == 2
    assert draws["cold_start"]["before"] == draws["mix"]["after"] == {"original": {"meld": {"neutral": 6}}}
    assert draws["cold_start"]["after"] == {"original": {"meld": {"neutral": 2}}}


def test_rows_survive_parquet(tmp_path, make_prompt_row):
    buffer = [
        make_prompt_row("a", label={"joy": 0.25, "fear": 0.75}),
        make_prompt_row("b", turns=(("Ann", "Caf\u00e9 \U0001f600?"),)),
    ]
    kept, _ = grown(buffer, [rollout("a", reply="D\u00e9j\u00e0 \U0001f600", mine=FELT)])
    path = tmp_path / "deep" / "buffer.parquet"
    assert write_rows(kept, path) == 3
    assert [p.name for p in path.parent.iterdir()] == ["buffer.parquet"]
    back = read_rows(path)
    assert pq.read_schema(path).equals(SCHEMA)
    assert [r["extra_info"]["index"] for r in back] == [0, 1, 2]
    for before, after in zip(kept, back, strict=True):
        assert ground_truth(after) == before["reward_model"]["ground_truth"]
        assert {k: v for k, v in after["extra_info"].items() if v is not None} == before["extra_info"]
        for name in ("data_source", "prompt", "response"):
            assert after[name] == before[name]
    # What was read is a buffer again: the second turn of the flywheel starts from it.
    rewritten, counts = grown(
        back, [rollout(back[2]["extra_info"]["row_id"], reply="Again.", mine={"fear": 1.0})], iteration=2
    )
    assert counts["self_play_added"] == 1
    assert rewritten[3]["extra_info"]["parent"] == back[2]["extra_info"]["row_id"]
    write_rows(rewritten, path)
    assert len(read_rows(path)) == 4


def test_rows_are_written_in_chunks_and_whole_or_not_at_all(tmp_path, make_prompt_row):
    path = tmp_path / "rows.parquet"
    assert write_rows((make_prompt_row(str(i)) for i in range(7)), path, chunk=3) == 7
    assert [r["extra_info"]["row_id"] for r in read_rows(path)] == list("0123456")
    assert pq.ParquetFile(path).num_row_groups == 1
    assert write_rows((make_prompt_row(str(i)) for i in range(30)), path, chunk=3) == 30
    assert [r["extra_info"]["index"] for r in read_rows(path)] == list(range(30))
    assert pq.ParquetFile(path).num_row_groups == 2  # five chunks each
    assert write_rows((make_prompt_row(str(i)) for i in range(7)), path, chunk=3) == 7

    def broken():
        yield make_prompt_row("x")
        raise OSError("disk")

    with pytest.raises(OSError):
        write_rows(broken(), path)
    assert len(read_rows(path)) == 7
    assert write_rows([], path) == 0 and read_rows(path) == []


def test_a_reply_with_half_an_emoji_can_be_stored(tmp_path, make_prompt_row):
    # From the model's text over the reward and the record to the buffer; see test_parse.
    from rewards.iou import compute_score

    text = (
        r"<think>a</think>{'last_emotions': {'joy': 1}, 'my_emotions': {'joy': 1}, 'my_output': 'ha \ud83d'}"
    )
    scored = compute_score("meld", text, {"joy": 1.0})
    pq.write_table(pa.Table.from_pylist([{"parsed": scored["parsed"]}]), tmp_path / "step.parquet")
    if scored["valid"]:
        kept, _ = grown([make_prompt_row("a")], [rollout("a") | {"parsed": scored["parsed"]}])
        write_rows(kept, tmp_path / "buffer.parquet")


def test_rollouts_are_read_in_step_order(tmp_path):
    for step in (10, 2, 1):
        table = pa.Table.from_pylist([rollout("a", step=step), rollout("b", step=step)])
        pq.write_table(table, tmp_path / f"step_{step:06d}.parquet")
    (tmp_path / "step_000011.part").write_bytes(b"unfinished")
    read = list(read_rollouts(tmp_path))
    assert [r["step"] for r in read] == [1, 1, 2, 2, 10, 10]
    assert read[0] == rollout("a", step=1)
    assert list(read_rollouts(tmp_path / "none")) == []
