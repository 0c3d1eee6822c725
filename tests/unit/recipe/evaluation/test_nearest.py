"""An answer that breaks the rule, read as the label that it names first or comes nearest to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.evaluation.nearest import edit_distance, nearest_label, read_nearest
from rewards.labels import LABELS

MELD = LABELS["meld"]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("JOY", "joy"),
        ("It is fear, not joy.", "fear"),  # the one that is named first, wherever it stands in the list
        ("<think>joy? sadness?</think>{'last_emotions': {'anger': 2}}", "anger"),  # what was only thought of
        ("<think>joy", "joy"),  # a block that never closes: the whole answer is read
        ("angr", "anger"),
        ("sadnes.", "sadness"),
        ("joyfull", "joy"),
        ("disgusted", "disgust"),
        ("", "joy"),  # three letters away, as fear is four
    ],
)
def test_the_nearest_label(answer, label):
    assert nearest_label(answer, MELD) == label


def test_the_longer_of_two_labels_is_named_and_the_first_of_equals_taken():
    assert nearest_label("sadness", ["sad", "sadness"]) == "sadness"
    assert nearest_label("xyz", ["abc", "def"]) == "abc"
    assert nearest_label("mad!", LABELS["emorynlp"]) == "Mad"


def by_definition(a: str, b: str) -> int:
    """The recurrence as it stands in textbooks."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y)))
        rows.append(row)
    return rows[-1][-1]


@given(st.text("abé😀", max_size=8), st.text("abé😀", max_size=12))
def test_the_distance_is_levenshteins(a, b):
    assert edit_distance(a, b) == by_definition(a, b)


def test_an_answer_that_keeps_the_rule_is_not_read_anew():
    record = {"valid": 1.0, "pred": "fear", "answer": "joy", "corpus": "meld"}
    assert read_nearest(record) == "fear"
    assert read_nearest(record | {"valid": 0.0}) == "joy"
