"""Self-play over several turns: who answers whom, what becomes a response, where a chain ends."""

from __future__ import annotations

import pytest

from data_prep.prompt import load_templates, render
from data_prep.rows import ground_truth
from recipe.buffer import self_play_row
from recipe.turns import play, unique

TEMPLATES = load_templates("compact")
SETTINGS = {"iteration": 3, "model": "abc", "min_reward": 0.4, "min_named_weight": 0.05}


def answer(last: str, mine: str, reply: str) -> str:
    return (
        f"<think>a</think>{{'last_emotions': {{'{last}': 1.0}}, 'my_emotions': {{'{mine}': 1.0}}, "
        f"'my_output': '{reply}'}}"
    )


def first_of(row: dict) -> dict:
    """d*_1: Bob has said "Well done!", and felt joy."""
    chosen = {
        "parsed": '{"last_emotions": {"joy": 1}, "my_emotions": {"joy": 1}, "my_output": "Well done!"}',
        "score": 1.1, "r2": 1 / 3, "rollout_index": 4, "step": 7,
    }  # fmt: skip
    return self_play_row(row, chosen, TEMPLATES, iteration=3, model="abc")


def test_two_turns(make_prompt_row):
    row = make_prompt_row(turns=(("Ann", "I won!"),), persona="Bob", personas=("Ann", "Bob"))
    asked = []

    def ask(rows):
        asked.append([r["extra_info"]["persona"]["name"] for r in rows])
        mine = ("surprise", "neutral")[len(asked) - 1]
        last = ("joy", "surprise")[len(asked) - 1]
        texts = [answer("anger", mine, "Wrong."), answer(last, mine, f"Turn {len(asked)}."), "nonsense"]
        return {r["extra_info"]["row_id"]: texts for r in rows}

    one, two = play([first_of(row)], ask, TEMPLATES, turns=2, **SETTINGS)
    assert asked == [["Ann"], ["Bob"]]  # roles in turn
    (d1,), (d2,) = one.rows, two.rows
    assert d1["response"] == answer("joy", "surprise", "Turn 1.")
    assert d1["response_from"] == {
        "source": "self_play", "iteration": 3, "rollout_index": 1, "reward": pytest.approx(1.1),
        "r2": pytest.approx(1 / 3), "model": "abc",  # E_top3 holds two labels, it names one
    }  # fmt: skip
    assert [s["rollout_index"] for s in one.samples] == [0, 1, 2]
    assert [s["score"] for s in one.samples] == pytest.approx([0.1, 1.1, 0.0])
    info = d2["extra_info"]
    assert [(t["speaker"], t["text"]) for t in info["context"]] == [
        ("Ann", "I won!"), ("Bob", "Well done!"), ("Ann", "Turn 1."),
    ]  # fmt: skip
    assert ground_truth(d2) == {"surprise": 1.0} and info["turn"] == 2
    assert info["parent"] == d1["extra_info"]["row_id"] and info["step"] is None
    assert d2["prompt"] == render(info["context"], info["persona"], info["labels"], TEMPLATES)
    assert d2["response"] == answer("surprise", "neutral", "Turn 2.")
    assert two.following[0]["extra_info"]["turn"] == 3  # made, and asked no more


def test_a_chain_ends_where_nothing_passes(make_prompt_row):
    rows = [first_of(make_prompt_row("a")), first_of(make_prompt_row("b", turns=(("Ann", "Hm."),)))]

    def ask(rows):
        good = answer("joy", "joy", "Yes.")
        return {
            r["extra_info"]["row_id"]: [good if len(r["extra_info"]["context"]) > 2 else "nonsense"]
            for r in rows
        }

    one, *rest = play(rows, ask, TEMPLATES, turns=2, **SETTINGS)
    assert [row["response"] is not None for row in one.rows] == [True, False]
    assert one.rows[1]["response_from"] is None  # a prompt face only
    assert [len(turn.rows) for turn in rest] == [1]
    assert not list(play([], ask, TEMPLATES, turns=2, **SETTINGS))


def test_a_stopped_stage_goes_on_with_the_turn_that_is_next(make_prompt_row):
    def ask(rows):
        return {r["extra_info"]["row_id"]: [answer("joy", "joy", "Yes.")] for r in rows}

    rows = [first_of(make_prompt_row())]
    one, two = play(rows, ask, TEMPLATES, turns=2, **SETTINGS)
    (again,) = play(one.following, ask, TEMPLATES, turns=2, first=2, **SETTINGS)
    assert again == two


def test_of_equal_answers_the_first_is_taken(make_prompt_row):
    def ask(rows):
        good = answer("joy", "joy", "Yes.")
        return {r["extra_info"]["row_id"]: ["nonsense", good, good] for r in rows}

    (one,) = play([first_of(make_prompt_row())], ask, TEMPLATES, turns=1, **SETTINGS)
    assert one.rows[0]["response_from"]["rollout_index"] == 1


def test_equal_rows_are_asked_once(make_prompt_row):
    row = first_of(make_prompt_row())
    assert unique([row, row]) == [row]
