"""A prompt followed through small real files: two turns of self-play, B, SFT, and the next iteration's RL."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.rows import write_rows
from recipe.buffer import best_rollouts, grow, self_play_row
from recipe.pages.lineage import _chosen, follow, render
from recipe.turns import play
from tests.unit.fake_run import TEMPLATES, rollouts_of_step

MIX = {"original": 100, "self_play": 100}


def said(last: str, mine: str, reply: str) -> str:
    return (
        f"<think>a</think>{{'last_emotions': {{'{last}': 1.0}}, 'my_emotions': {{'{mine}': 1.0}}, "
        f"'my_output': '{reply}'}}"
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_prompt_row):
    """Two prompts, two RL steps, two turns; the second prompt's rollouts all break the rule."""
    folder = tmp_path_factory.mktemp("runs") / "followed"
    rows = [
        make_prompt_row(
            name, turns=(("Ann", line),), persona="Bob", personas=("Ann", "Bob"), label={"joy": 1.0}
        )
        for name, line in (("meld:1", "I won!"), ("meld:2", "Never."))
    ]
    rl = folder / "iter_1/rl"
    write_rows(rows, rl / "train.parquet")
    (rl / "rollouts").mkdir()
    rollouts, draw = [], random.Random(3)
    for step in (1, 2):
        found = rollouts_of_step(rows, step, 2, 1.0, draw)
        for r in found:
            broken = r["row_id"] == "meld:2"
            r |= {"valid": 0.0, "score": 0.0, "reason": "no_dict"} if broken else {}
        pq.write_table(pa.Table.from_pylist(found), rl / f"rollouts/step_{step:06d}.parquet")
        rollouts += found
    best = best_rollouts(rollouts, 0.4)
    first = self_play_row(rows[0], best["meld:1"], TEMPLATES, iteration=1, model="abc")
    label = next(iter(first["reward_model"]["ground_truth"]))

    def answer(asked):
        last = label if len(asked[0]["extra_info"]["context"]) == 2 else "surprise"
        texts = ["nothing", said(last, "surprise", f"Reply {len(asked[0]['extra_info']['context'])}.")]
        return {row["extra_info"]["row_id"]: texts for row in asked}

    played = []
    options = {"iteration": 1, "model": "abc", "turns": 2, "min_reward": 0.4, "min_named_weight": 0.05}
    for turn in play([first], answer, TEMPLATES, **options):
        write_rows(turn.rows, folder / f"iter_1/self_play/played_{turn.number}.parquet")
        samples = pa.Table.from_pylist(turn.samples)
        pq.write_table(samples, folder / f"iter_1/self_play/samples_{turn.number}.parquet")
        played += turn.rows
    buffer, *_ = grow(
        rows, best, played, iteration=1, model="abc", min_reward=0.4, same_reply=1.0, mix=MIX, seed=1
    )
    write_rows(buffer, folder / "iter_1/buffer/buffer.parquet")
    write_rows([row for row in buffer if row["response"]], folder / "iter_1/sft/train.parquet")
    (folder / "iter_2/rl/rollouts").mkdir(parents=True)
    later = rollouts_of_step(played[:1], 1, 2, 1.0, draw)
    pq.write_table(pa.Table.from_pylist(later), folder / "iter_2/rl/rollouts/step_000001.parquet")
    (folder / "config.yaml").write_text("flywheel: {min_reward: 0.4}\n")
    return folder, best["meld:1"]


def test_a_prompt_through_all_files(run):
    folder, best = run
    places = follow(folder, "meld:1")
    assert [place.name for place in places] == [
        "prompt", "rollouts", "rollouts", "y*", "d*_1", "answers to d*_1", "d*_2", "answers to d*_2",
        "B", "SFT", "RL of iteration 2",
    ]  # fmt: skip
    at = {place.name: place for place in places}
    (star,), (one,), (two,) = (at[name].rows for name in ("y*", "d*_1", "d*_2"))
    assert star == best and at["y*"].file == f"iter_1/rl/rollouts/step_{best['step']:06d}.parquet"
    info = one["extra_info"]
    assert (info["parent"], info["step"], info["rollout_index"], info["reward"]) == (
        "meld:1", star["step"], star["rollout_index"], star["score"],
    )  # fmt: skip
    assert [r["valid"] for r in at["answers to d*_1"].rows] == [0.0, 1.0]
    assert one["response"] == at["answers to d*_1"].rows[1]["response"]
    assert two["extra_info"]["parent"] == info["row_id"]
    for name in ("B", "SFT"):
        ids = [row["extra_info"]["row_id"] for row in at[name].rows]
        assert ids == ["meld:1", info["row_id"], two["extra_info"]["row_id"]]
    assert at["SFT"].rows[0]["response"] == star["response"]
    assert {r["row_id"] for r in at["RL of iteration 2"].rows} == {info["row_id"]}


def test_a_row_of_self_play_leads_to_its_prompt_and_the_longest_chain_is_the_default(run):
    folder, _ = run
    places = follow(folder, "meld:1")
    last = next(place for place in places if place.name == "d*_2").rows[0]["extra_info"]["row_id"]
    assert follow(folder, last) == places == follow(folder)


def test_the_default_row_trained_in_its_own_sft_and_in_the_next_rl_where_one_did(tmp_path):
    def write(path: str, rows: list[dict]) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / path)

    def row(name: str, parent: str, turn: int) -> dict:
        return {"extra_info": {"row_id": name, "parent": parent, "turn": turn}, "response": "x"}

    write("iter_1/self_play/played_1.parquet", [row("a1", "a", 1), row("b1", "b", 1), row("c1", "c", 1)])
    assert _chosen(tmp_path) == "a"  # nothing else is there
    write("iter_1/sft/train.parquet", [row("b1", "b", 1), row("c1", "c", 1)])
    assert _chosen(tmp_path) == "b"
    write("iter_2/rl/rollouts/step_000001.parquet", [{"row_id": "a1"}])
    write("iter_2/rl/rollouts/step_000002.parquet", [{"row_id": "c1"}])
    assert _chosen(tmp_path) == "c"
    write("iter_1/self_play/played_2.parquet", [row("b2", "b1", 2)])
    assert _chosen(tmp_path) == "c"  # a longer chain that never trained
    write("iter_1/sft/train.parquet", [row("c1", "c", 1), row("b2", "b1", 2)])
    write("iter_2/rl/rollouts/step_000001.parquet", [{"row_id": "b2"}])
    assert _chosen(tmp_path) == "b"


def test_a_prompt_without_a_good_rollout_ends_there(run):
    places = follow(run[0], "meld:2")
    assert [place.name for place in places] == ["prompt", "rollouts", "rollouts", "B", "SFT"]
    assert places[-1].rows == [] and places[-2].rows[0]["response"] is None
    text = render(places)
    assert "breaks the rule: no_dict" in text and "SFT   [iter_1/sft/train.parquet]\n    not there" in text


def test_the_text_names_files_rewards_and_replies(run):
    folder, best = run
    text = render(follow(folder, "meld:1"))
    assert f"meld:1 #{best['rollout_index']}: R {best['score']:.2f}, r2 {best['r2']:.2f}, advantage" in text
    assert "d*_2   [iter_1/self_play/played_2.parquet]" in text
    assert "turn 1 of iteration 1, from rollout" in text and "Ann: Reply 2." in text
    assert "response (source self_play, iteration 1, rollout_index 1, reward 1.10" in text


def test_what_cannot_be_followed_is_said(run, tmp_path):
    with pytest.raises(ValueError, match="no RL stage has a rollout of meld:9.*leave ROW out for an example"):
        follow(run[0], "meld:9")
    with pytest.raises(ValueError, match="has no rollouts yet"):
        follow(tmp_path)
