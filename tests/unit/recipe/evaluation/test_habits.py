"""Habits of valid answers are counted as worked out by hand."""

from __future__ import annotations

import json

import pytest

from recipe.evaluation.habits import habits, holds_dictionary, is_padded, names_label
from rewards.labels import LABELS


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ("What a JOY!", True),
        ("I feel (fear).", True),
        ("I enjoy it, joyful as ever.", False),
        ("", False),
    ],
)
def test_a_reply_that_names_a_label(reply, names):
    assert names_label(reply, LABELS["meld"]) is names


@pytest.mark.parametrize(
    ("reply", "holds"),
    [
        ("Hi {'last_emotions': {'joy': 1}}", True),
        ('{ "joy" : 1', True),
        ("{joy: 1}", False),
        ("{} 'a': b", False),
    ],
)
def test_a_reply_that_holds_a_dictionary(reply, holds):
    assert holds_dictionary(reply) is holds


def test_an_answer_is_padded_below_the_least_normalised_weight():
    assert is_padded({"joy": 1.0, "fear": 0.05}, 0.05)  # 0.0476 of the whole
    assert not is_padded({"joy": 0.9, "fear": 0.1}, 0.05) and not is_padded({"joy": 1, "fear": 1e-6}, 0.0)


def test_shares_are_of_the_answers_that_keep_the_rule():
    def answer(reply: str, valid: float = 1.0, **last: float) -> dict:
        return {"valid": valid, "parsed": json.dumps({"last_emotions": last, "my_output": reply})}

    answers = [
        answer("Joy!", joy=1),
        answer("{'a': 1}", joy=1, fear=1e-6),
        answer("Hi", sadness=1),
        answer("joy", valid=0.0),
    ]
    labels = [LABELS["meld"]] * 4
    assert habits(answers, labels, 0.05) == pytest.approx(
        {"reply_names_label": 1 / 3, "reply_holds_dictionary": 1 / 3, "padded": 1 / 3}
    )
    assert set(habits(answers[3:], labels[3:], 0.05).values()) == {None}
