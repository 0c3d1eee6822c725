"""What annotations come to, in words."""

from __future__ import annotations

import pytest

from recipe.annotation.tables import Summary, how_many


@pytest.mark.parametrize(
    ("utterances", "dialogues", "said"),
    [(1, 1, "1 utterance in 1 dialogue"), (2_000, 2, "2,000 utterances in 2 dialogues")],
)
def test_one_is_not_many(utterances, dialogues, said):
    assert how_many(utterances, dialogues) == said


@pytest.mark.parametrize(
    ("problems", "told"),
    [({"no_think": 3}, True), ({"no_think": 2}, False), ({"no_think": 2, "too_long": 2}, False)],
)
def test_a_model_that_does_not_know_the_form_is_told_apart_from_long_dialogues(problems, told):
    lines = Summary(utterances=4, dialogues=1, problems=problems).lines()
    assert any("most answers break the output rule" in line for line in lines) == told
