"""What SFT is about to learn from B, by hand."""

from __future__ import annotations

import json

import pytest

from recipe.evaluation.buffer_quality import describe_buffer

SELF = {"origin": "self_play", "iteration": 1}


def response(label: str, reply: str = "Hm.") -> str:
    said = {"last_emotions": {label: 0.8, "disgust": 0.1}, "my_emotions": {"joy": 1.0}, "my_output": reply}
    return f"<think>so</think>{json.dumps(said)}"


def test_b_by_hand(make_prompt_row):
    def row(name, text, source, **more):
        found = make_prompt_row(name, label={"joy": 0.7, "fear": 0.3}, response=text, **more)
        return found | {"response_from": {"source": source} if source else None}

    rows = [
        row("a", response("joy"), "rollout"),
        row("b", response("fear", "HM.  "), "rollout"),  # the heaviest gold label is joy; the reply is a's
        row("c", response("joy", "Well!"), "offline"),
        row("d", "no dictionary", "offline"),
        row("e", response("joy", "Oh."), None),
        row("f", None, None),
        row("g", response("joy", "Hm."), "rollout", lineage=SELF, turns=(("Ann", "Hi."), ("Bob", "Yes."))),
        row("h", None, None, lineage=SELF, turns=(("Ann", "Oh."), ("Bob", "yes."))),
        row("i", response("fear", "Hm."), "rollout", lineage=SELF, turns=(("Ann", "Oh."), ("Bob", "No."))),
    ]
    found = describe_buffer(rows)
    assert found["right"] == pytest.approx(3 / 5) and found["own_right"] == 0.5
    assert found["right_by_source"] == {"offline": (1, 2), "rollout": (1, 2), "unknown": (1, 1)}
    assert found["replies"] == 6 and found["distinct"] == pytest.approx(3 / 6)  # hm., well!, oh.
    assert (found["self_replies"], found["self_distinct"]) == (3, pytest.approx(2 / 3))
    empty = describe_buffer([row("f", None, None)])
    assert empty["right"] is None and empty["distinct"] is None and empty["self_distinct"] is None
