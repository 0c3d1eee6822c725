"""Worked examples for a model that is its own expert."""

from __future__ import annotations

import re

import pytest

from data_prep.experts.examples import worked_examples
from rewards.labels import LABELS
from rewards.parse import parse_output


@pytest.mark.parametrize("corpus", LABELS)
def test_every_example_keeps_the_rule_in_the_labels_of_its_corpus(corpus):
    answers = re.findall(r"<think>.*?</think>\n\{.*\}", worked_examples(corpus))
    assert len(answers) == 3
    found = [parse_output(answer, LABELS[corpus]) for answer in answers]
    assert [parsed.reason for parsed in found] == [None] * 3
    assert len({max(p.last_emotions, key=p.last_emotions.get) for p in found}) == 3  # not one label alone
    assert all(set(p.my_emotions) <= set(LABELS[corpus]) for p in found)
