"""Algorithm 1's data loop: which rollout enters B, as which row, and which rows stay."""

from __future__ import annotations

import copy
import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from data_prep.corpora.dialogue import Dialogue, Utterance
from data_prep.prepare import LISTENER, dialogue_rows
from data_prep.prompt import PromptTemplates, load_templates, render
from data_prep.rows import SCHEMA, ground_truth, read_rows, write_rows
from recipe.buffer import (
    best_rollouts,
    content_hash,
    draw_mix,
    draw_stratified,
    grow,
    next_recogniser,
    read_rollouts,
    self_play_row,
)
from rewards.labels import LABELS

TEMPLATES = load_templates("compact")
MIX = {"original": 100, "self_play": 100}


def rollout(
    row_id: str = "meld:d1:3", score: float = 0.9, r2: float = 1 / 3, step: int = 1, index: int = 0, **more
):
    parsed = {
        "last_emotions": {"joy": 1.0},
        "my_emotions": more.pop("mine", {"joy": 0.6, "surprise": 0.2}),
        "my_output": more.pop("reply", "Good for you!"),
    }
    return {
        "row_id": row_id,
        "score": score,
        "r2": r2,
        "step": step,
        "rollout_index": index,
        "parsed": json.dumps(parsed, ensure_ascii=False),
        "response": f"response {score} {r2} {step} {index}",
        **more,
    }


def grown(buffer, rollouts, **changes):
    settings = {"iteration": 1, "model": "abc", "min_reward": 0.1, "mix": MIX, "seed": 1} | changes
    return grow(buffer, rollouts, TEMPLATES, **settings)[:2]


# ---- y* = argmax r ----


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


# ---- the next recogniser ----

ANN, BOB, CYD = ({"name": n, "profile": f"{n}'s profile."} for n in ("Ann", "Bob", "Cyd"))


def turns(*speakers: str):
    return [{"speaker": s, "text": "..."} for s in speakers]


@pytest.mark.parametrize(
    ("speakers", "responder", "wanted"),
    [
        (("Ann", "Bob", "Ann"), "Bob", ANN),
        (("Ann", "Cyd", "Bob"), "Bob", CYD),  # the most recent other one, although Ann was there, too
        (("Ann", "Cyd", "Bob", "Bob"), "Bob", CYD),
        (("Bob", "Bob"), "Bob", ANN),  # nobody else has spoken yet: any other persona
        (("Ann",), "Bob", ANN),
    ],
)
def test_next_recogniser(speakers, responder, wanted):
    assert next_recogniser(turns(*speakers), responder, [BOB, ANN, CYD]) == wanted


def test_next_recogniser_of_a_monologue():
    assert next_recogniser(turns("Ann", "Ann"), "Listener", [ANN]) == ANN
    assert next_recogniser(turns("Ann", "Ann"), "Ann", [ANN]) is None
    assert next_recogniser(turns("Zoe"), "Ann", [ANN])["name"] == "Zoe"


# ---- d* ----


def test_self_play_row(make_prompt_row):
    row = make_prompt_row(label={"joy": 1.0})
    kept = copy.deepcopy(row)
    chosen = rollout(score=0.7, r2=2 / 3, step=4, index=5, reply=" Good \n for\tyou! ")
    new = self_play_row(row, chosen, TEMPLATES, 2, "abc123")
    info = new["extra_info"]
    assert row == kept  # the parent is left alone
    context = [
        {"speaker": "Ann", "text": "Hello."},
        {"speaker": "Bob", "text": "Hi."},
        {"speaker": "Ann", "text": "I won!"},
        {"speaker": "Bob", "text": "Good for you!"},
    ]
    assert info["context"] == context
    assert info["speaker"] == "Bob"  # whose emotions are recognised now
    assert info["persona"] == {"name": "Ann", "profile": "Ann is Ann."}  # and by whom
    assert new["reward_model"] == {
        "style": "rule",
        "ground_truth": pytest.approx({"joy": 0.75, "surprise": 0.25}),
    }
    assert new["prompt"] == render(context, info["persona"], LABELS["meld"], TEMPLATES)
    assert new["response"] is None
    assert {k: info[k] for k in ("split", "dialogue_id", "labels", "personas")} == {
        k: row["extra_info"][k] for k in ("split", "dialogue_id", "labels", "personas")
    }
    lineage = ("origin", "iteration", "parent", "rollout_index", "step", "reward", "r2", "model")
    assert [info[k] for k in lineage] == ["self_play", 2, "meld:d1:3", 5, 4, 0.7, 2 / 3, "abc123"]
    assert info["row_id"] != row["extra_info"]["row_id"] and info["row_id"].startswith("meld:self:")


def test_self_play_goes_on_for_several_iterations(make_prompt_row):
    first = self_play_row(make_prompt_row(), rollout(reply="One."), TEMPLATES, 1, "m")
    second = self_play_row(first, rollout(first["extra_info"]["row_id"], reply="Two."), TEMPLATES, 2, "m")
    assert [t["text"] for t in second["extra_info"]["context"]] == ["Hello.", "Hi.", "I won!", "One.", "Two."]
    assert [t["speaker"] for t in second["extra_info"]["context"]] == ["Ann", "Bob", "Ann", "Bob", "Ann"]
    assert second["extra_info"]["persona"]["name"] == "Bob"
    assert second["extra_info"]["parent"] == first["extra_info"]["row_id"]


def test_a_listener_keeps_its_profile_when_its_turn_comes_again():
    # A monologue's persona is nobody of the dialogue, but its PI goes into the prompt as well.
    alone = Dialogue("meld", "train", "d2", (Utterance("0", "Ann", "I won!", "joy"),))
    (row,) = dialogue_rows(alone, TEMPLATES)
    assert row["extra_info"]["persona"] == LISTENER
    first = self_play_row(row, rollout(), TEMPLATES, 1, "m")
    assert first["extra_info"]["persona"]["name"] == "Ann"
    second = self_play_row(first, rollout(first["extra_info"]["row_id"]), TEMPLATES, 2, "m")
    assert second["extra_info"]["persona"] == LISTENER


def test_nobody_to_recognise(make_prompt_row):
    row = make_prompt_row(turns=(("Ann", "Hm."),), persona="Ann")
    assert self_play_row(row, rollout(), TEMPLATES, 1, "m") is None
    kept, counts = grown([row], [rollout()])
    assert len(kept) == 1 and counts["nobody_to_recognise"] == 1


def test_the_identity_of_a_prompt():
    context = turns("Ann", "Bob")
    same = content_hash("meld", [dict(t, more=1) for t in context], {"name": "Ann", "profile": "other"})
    assert content_hash("meld", context, ANN) == same
    for corpus, other, persona in (
        ("iemocap", context, ANN),
        ("meld", context, BOB),
        ("meld", context[:1], ANN),
        ("meld", context[::-1], ANN),
    ):
        assert content_hash(corpus, other, persona) != same


# ---- B grows ----


def test_grow(make_prompt_row):
    buffer = [
        make_prompt_row("a"),
        make_prompt_row("b", turns=(("Ann", "No."), ("Bob", "Why?"))),
        make_prompt_row("c", (("Cyd", "Ah."),)),
    ]
    buffer[1]["response"] = "the expert's"
    rollouts = [
        rollout("a", 0.5),
        rollout("a", 0.9, index=1, reply="Best."),
        rollout("b", 0.1),
        rollout("c", 0.0),
    ]
    kept, counts = grown(buffer, rollouts)
    assert [r["extra_info"]["row_id"] for r in kept[:3]] == ["a", "b", "c"]
    # The best response replaces what was there; without a good one it stays.
    assert [r["response"] for r in kept] == [rollouts[1]["response"], "the expert's", None, None]
    source = kept[0]["response_from"]
    taken = rollouts[1]
    assert source.pop("model") and source == {
        "source": "rollout", "iteration": 1, "step": taken["step"], "rollout_index": taken["rollout_index"],
        "reward": taken["score"], "r2": taken["r2"],
    }  # fmt: skip
    assert kept[1]["response_from"] is None  # untouched
    assert kept[3]["extra_info"]["parent"] == "a" and kept[3]["extra_info"]["reward"] == 0.9
    assert kept[3]["extra_info"]["context"][-1] == {"speaker": "Bob", "text": "Best."}
    assert counts == {"prompts": 3, "best_responses": 1, "self_play_added": 1, "dropped_by_mix": 0, "rows": 4}
    assert buffer[0]["response"] is None  # the old buffer is left alone


def test_rows_are_not_added_twice(make_prompt_row):
    twins = [make_prompt_row("a"), make_prompt_row("b")]  # two prompts with one content
    kept, counts = grown(twins, [rollout("a"), rollout("b")])
    assert counts["self_play_added"] == 1 and counts["duplicates"] == 1
    again, counts = grown(kept, [rollout("a", reply=" Good  for you! ")], iteration=2)
    assert counts["duplicates"] == 1 and len(again) == len(kept)
    more, counts = grown(kept, [rollout("a", reply="Really?")], iteration=2)
    assert counts["self_play_added"] == 1 and len(more) == len(kept) + 1
    assert len({r["extra_info"]["row_id"] for r in more}) == len(more)


def test_strangers_raise(make_prompt_row):
    with pytest.raises(ValueError, match="not in the buffer: zzz"):
        grown([make_prompt_row("a")], [rollout("a"), rollout("zzz")])


def test_the_mix_limits_each_origin(make_prompt_row):
    buffer = [make_prompt_row(f"p{i}", turns=(("Ann", f"Line {i}."),)) for i in range(20)]
    rollouts = [rollout(f"p{i}") for i in range(20)]
    kept, counts = grown(buffer, rollouts, mix={"original": 6, "self_play": 3})
    assert Counter(r["extra_info"]["origin"] for r in kept) == {"original": 6, "self_play": 3}
    assert (counts["dropped_by_mix"], counts["rows"]) == (31, 9)
    everything, _ = grown(buffer, rollouts, mix={"original": 20, "self_play": 20})
    places = [everything.index(row) for row in kept]
    assert places == sorted(places)  # order kept
    assert grown(buffer, rollouts, mix={"original": 6, "self_play": 3})[0] == kept
    assert grown(buffer, rollouts, mix={"original": 6, "self_play": 3}, seed=2)[0] != kept
    assert len(grown(buffer, rollouts, mix={"original": None, "self_play": 0})[0]) == 20


def test_self_play_keeps_the_theme(make_prompt_row):
    row = make_prompt_row("a", theme="parting")
    new = self_play_row(row, rollout("a"), PromptTemplates("{theme}", "{history}"), 1, "m")
    assert new["extra_info"]["theme"] == "parting" and new["prompt"][0]["content"] == "parting"


def test_the_draw_is_recorded(make_prompt_row):
    buffer = [
        make_prompt_row(f"p{i}", turns=(("Ann", f"Line {i}."),), label={"joy" if i % 2 else "fear": 1.0})
        for i in range(8)
    ]
    rollouts = [rollout(f"p{i}", mine={"anger": 0.9, "joy": 0.2}) for i in range(8)]
    settings = {"iteration": 1, "model": "abc", "min_reward": 0.1, "seed": 5}
    mix = {"original": 4, "self_play": 3}
    kept, _, draw = grow(buffer, rollouts, TEMPLATES, mix=mix, **settings)
    assert draw == {
        "limit": mix,
        "seed": 5,
        "before": {
            "original": {"meld": {"fear": 4, "joy": 4}},
            "self_play": {"meld": {"anger": 8}},
        },
        "after": {"original": {"meld": {"fear": 2, "joy": 2}}, "self_play": {"meld": {"anger": 3}}},
        "row_ids": [r["extra_info"]["row_id"] for r in kept],
    }


def test_the_first_buffer_s_draws_are_recorded(tmp_path, make_prompt_row):
    from recipe.run.run import Run
    from recipe.steps import seed

    config = {
        "prompts": {"dir": "compact"},
        "expert": {"kind": "offline"},
        "run": {"seed": 3},
        "flywheel": {"mix": {"original": 6, "self_play": 5}, "cold_start_rows": 2},
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


def test_draw_mix_of_nothing():
    assert draw_mix([], MIX, 1) == []


# ---- stratified draws ----


def labelled(counts: dict[tuple[str, str], int]) -> list[dict]:
    return [
        {
            "data_source": corpus,
            "reward_model": {"ground_truth": {label: 1.0, "other": None}},
            "extra_info": {"labels": LABELS[corpus]},
        }
        for (corpus, label), count in counts.items()
        for _ in range(count)
    ]


def strata(rows, places) -> Counter:
    return Counter((rows[i]["data_source"], next(iter(ground_truth(rows[i])))) for i in places)


def test_shares_are_kept():
    counts = {("meld", "joy"): 60, ("meld", "fear"): 30, ("iemocap", "sad"): 10}
    rows = labelled(counts)
    assert strata(rows, draw_stratified(rows, 10, 1)) == {
        ("meld", "joy"): 6, ("meld", "fear"): 3, ("iemocap", "sad"): 1,
    }  # fmt: skip


def test_largest_remainders_fill_up():
    rows = labelled({("meld", "joy"): 5, ("meld", "fear"): 3, ("meld", "anger"): 2})
    # Quotas of 4 rows: 2.0, 1.2, 0.8.
    assert strata(rows, draw_stratified(rows, 4, 1)) == {
        ("meld", "joy"): 2,
        ("meld", "fear"): 1,
        ("meld", "anger"): 1,
    }


def test_the_same_label_of_two_corpora_is_two_strata():
    rows = labelled({("meld", "neutral"): 10, ("iemocap", "neutral"): 10})
    for seed in range(5):
        drawn = strata(rows, draw_stratified(rows, 10, seed))
        assert drawn == {("meld", "neutral"): 5, ("iemocap", "neutral"): 5}


@given(
    st.dictionaries(
        st.sampled_from([(c, label) for c in LABELS for label in LABELS[c]]), st.integers(1, 30), min_size=1
    ),
    st.integers(0, 80),
    st.integers(0, 9),
)
def test_draws_are_exact_seeded_and_near_the_quota(counts, most, seed):
    rows = labelled(counts)
    drawn = draw_stratified(rows, most, seed)
    assert drawn == sorted(set(drawn)) and len(drawn) == min(most, len(rows))
    assert set(drawn) <= set(range(len(rows)))
    assert draw_stratified(rows, most, seed) == drawn
    for key, share in strata(rows, drawn).items():
        assert abs(share - min(most, len(rows)) * counts[key] / len(rows)) < 1 + 1e-9


def test_draws_without_a_limit_and_with_places():
    rows = labelled({("meld", "joy"): 3})
    assert draw_stratified(rows, None, 1) == draw_stratified(rows, 3, 1) == [0, 1, 2]
    assert set(draw_stratified(rows, 2, 1, [10, 20, 30])) < {10, 20, 30}
    many = labelled({("meld", "joy"): 50})
    assert len({tuple(draw_stratified(many, 5, seed)) for seed in range(10)}) > 1


# ---- Parquet ----


def test_rows_survive_parquet(tmp_path, make_prompt_row):
    buffer = [
        make_prompt_row("a", label={"joy": 0.25, "fear": 0.75}),
        make_prompt_row("b", turns=(("Ann", "Caf\u00e9 \U0001f600?"),)),
    ]
    kept, _ = grown(buffer, [rollout("a", reply="D\u00e9j\u00e0 \U0001f600")])
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
    rewritten, counts = grown(back, [rollout(back[2]["extra_info"]["row_id"], reply="Again.")], iteration=2)
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
    read = read_rollouts(tmp_path)
    assert [r["step"] for r in read] == [1, 1, 2, 2, 10, 10]
    assert read[0] == rollout("a", step=1)
    assert read_rollouts(tmp_path / "none") == []
