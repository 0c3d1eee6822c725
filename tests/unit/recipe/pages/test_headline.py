"""The top of a run's page: what happened, in a sentence that says no more than the numbers."""

from __future__ import annotations

import pytest

from recipe.evaluation.answers import score_answers
from recipe.evaluation.intervals import bootstrap_intervals
from recipe.evaluation.measures import summarise
from recipe.pages.headline import as_text, headline


@pytest.fixture
def scored(make_prompt_row):
    """Records of 20 dialogues of two rows, of which the first ``right`` dialogues are read rightly."""
    rows = []
    for i in range(40):
        row = make_prompt_row(f"r{i}", label={"joy": 1.0})
        row["extra_info"]["dialogue_id"] = f"d{i // 2}"
        rows.append(row)

    def answer(label: str) -> list[str]:
        said = f"{{'last_emotions': {{'{label}': 1.0}}, 'my_emotions': {{'joy': 1.0}}, 'my_output': 'So.'}}"
        return [f"<think>a</think>{said}"]

    def make(right: int):
        answers = {f"r{i}": answer("joy" if i // 2 < right else "anger") for i in range(40)}
        return score_answers(rows, answers)

    return make


def made(records):
    results = {stage: summarise(rows) for stage, rows in records.items()}
    return headline(results, records, {stage: bootstrap_intervals(rows) for stage, rows in records.items()})


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (18, "dialogues: it has learnt to recognise more."),
        (2, "dialogues: it recognises less"),
        (10, "dialogues: no clear change"),
    ],
)
def test_the_sentence_says_what_happened(scored, right, said):
    found = made({"majority": scored(4), "cold": scored(10), "rl_1": scored(3), "retrained_1": scored(right)})
    after = right / 20
    assert found.sentence.startswith(
        "On 40 held-out utterances accuracy went from 0.500 (after cold start) to "
        f"{after:.3f} (retrained on B 1): {after - 0.5:+.3f}, 95 % interval"
    )
    assert said in found.sentence


def test_three_lines_and_a_picture(scored):
    found = made(
        {
            "majority": scored(4),
            "tfidf": scored(6),
            "cold": scored(10),
            "rl_1": scored(3),
            "retrained_1": scored(18),
        }
    )
    assert list(found.lines) == ["after cold start", "retrained on B 1", "TF-IDF, logistic regression"]
    # By hand: R of a right one-hot answer is 1.1, its twin's 0.1 + 0.7 / 1.3; of a wrong one both are 0.1.
    assert found.lines["after cold start"]["reward"] == pytest.approx(0.6)
    assert found.lines["after cold start"]["twin"] == pytest.approx(0.1 + 0.35 / 1.3)
    assert "after RL 1" in found.picture.svg and "majority class" in found.picture.svg
    text = as_text(found)
    assert text.splitlines()[-1] == found.sentence and "R at fixed weights" in text


def test_before_there_is_anything_to_compare(scored):
    assert made({}).sentence == "No checkpoint of this run is scored yet."
    one = made({"cold": scored(10)})
    assert one.sentence == "After cold start is scored." and one.picture is None
