"""Soft labels by experts: the gold label stays the heaviest, and nothing that is said is evaluated."""

from __future__ import annotations

import json

import pytest

from data_prep.experts.client import Endpoint, Settings
from data_prep.experts.reading import read_dictionary
from data_prep.experts.soft_labels import ask_labels, complaint, read_label, request
from rewards.labels import LABELS
from tests.unit.expert_server import Server

MELD = LABELS["meld"]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("So: {'joy': 0.9, 'Surprise': 0.6}", {"joy": 0.6, "surprise": 0.4}),
        ('{"joy": 1}', {"joy": 1.0}),
        ("{'joy': 0.5, 'fear': 0.3, 'anger': 0.2}", {"joy": 0.5, "fear": 0.3, "anger": 0.2}),
    ],
)
def test_a_soft_label(said, wanted):
    assert read_label(said, "joy", MELD) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("I would rather not.", "ends with no dictionary"),
        ("{'fear': 0.9}", "joy must be among the labels"),
        ("{'joy': 0.5, 'fear': 0.5}", "have the largest weight"),
        ("{'joy': 0.5, 'fear': 0.4, 'anger': 0.3, 'disgust': 0.1}", "one to 3 labels"),
        ("{'joy': 0.5, 'JOY': 0.4}", "each once"),
        ("{'joy': 0.5, 'bliss': 0.4}", "'bliss' is not among the allowed labels"),
        ("{'joy': True}", "a number from 0.000001 to 1"),
        ("{'joy': 'very'}", "a number from"),
        ("{'joy': 1.5}", "a number from"),
        ("{'joy': 1, 'fear': 1e-9, 'anger': 1e-9}", "the weight of fear must be a number from"),
        ('{"joy": NaN}', "a number from"),
        ("{'joy': float('nan')}", "ends with no dictionary"),
        ("{{'a': 1}: 2}", "ends with no dictionary"),
        ("{1: 0.5}", "keys of the dictionary must be text"),
        ("{}", "one to 3 labels"),
    ],
)
def test_what_is_wrong_is_said(said, wrong):
    assert wrong in complaint(said, "joy", MELD)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Analysis. {{"Ann": "A friendly woman.", "Theme": "A quarrel."}}', {"Ann", "Theme"}),
        ("{{'Ann': 'x'}}", {"Ann"}),
        ("{'a': {'b': 1}}", {"a"}),
        ("words {'x': 1} and more {'y': 2} at the end.", {"y"}),
    ],
)
def test_doubled_braces_are_single_ones(text, found):
    """A set as a key, as Python reads them, used to end the program."""
    assert read_dictionary(text).keys() == found


def test_experts_are_asked_and_gold_labels_stay_where_they_fail(make_prompt_row, tmp_path):
    rows = [
        make_prompt_row("a", label={"joy": 1.0}),
        make_prompt_row("b", turns=(("Ann", "A {speaker} and {gold}."),), label={"joy": 1.0}),
    ]
    with Server() as server:
        server.reply = lambda body: (
            "{'joy': 0.8, 'surprise': 0.2}" if "I won!" in body["messages"][1]["content"] else "{'fear': 1}"
        )
        settings = Settings((Endpoint("wise", server.url, "m"),), reasks=1, retries=0)
        found, answers = ask_labels(rows, settings, tmp_path)
    assert found == {"a": pytest.approx({"joy": 0.8, "surprise": 0.2})}
    assert [reject["name"] for reject in answers.rejects] == ["label:b"]


def test_what_is_asked(make_prompt_row):
    row = make_prompt_row("a", turns=(("Ann", "A {speaker} and {gold}."),), label={"joy": 1.0})
    asked = request(row)
    user = asked.messages[1]["content"]
    assert "Ann: A {speaker} and {gold}." in user  # a dialogue's braces are left alone
    assert "The last line, by Ann, is labelled: joy" in user and ", ".join(MELD) in user
    assert json.dumps(asked.messages)
