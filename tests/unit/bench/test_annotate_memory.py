"""What the bench of `make annotate` reads, and what its stand-in answers."""

from __future__ import annotations

from bench.annotate_memory import stand_in, write_dialogues
from data_prep.own_dialogues.read import look_through
from rewards.labels import LABELS
from rewards.parse import parse_output


def test_made_up_dialogues_are_read(tmp_path):
    write_dialogues(tmp_path / "mine.csv", 57)
    found = look_through(tmp_path / "mine.csv", LABELS["meld"], {})
    assert (found.utterances, found.dialogues, found.together) == (57, 6, True)


def test_the_stand_in_keeps_the_rule_but_once_in_seven(make_prompt_row):
    rows = [make_prompt_row(f"r{i}", turns=(("Ann", "a" * (i + 1)),)) for i in range(7)]
    with stand_in(None, "", None) as answer:
        (said,) = answer(rows)
    parsed = [parse_output(said[row["extra_info"]["row_id"]][0], LABELS["meld"]) for row in rows]
    assert sum(p.valid for p in parsed) == 6
    assert {label for p in parsed for label in p.last_emotions} == set(LABELS["meld"])
