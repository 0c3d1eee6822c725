"""Forms of answers, against the checks that have the last word."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.experts import cold_start, forms, personas, soft_labels
from rewards.labels import LABELS

#: As a model may write between what a form gives; what only looks empty is for the checks.
WRITTEN = st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=("C", "Z"))
NAMES = ["Dr. O'Neil (x)", 'the "boss"', "a|b", "Zoë [2]", "C\\D", personas.THEME]


def of(form: str):
    return st.from_regex(form, fullmatch=True, alphabet=WRITTEN | st.sampled_from(" \n"))


@pytest.mark.parametrize("tokens", [1, 128, 4096])
@pytest.mark.parametrize("corpus", sorted(LABELS))
def test_what_has_the_form_of_a_response_keeps_the_rule(corpus, tokens):
    @given(of(forms.of_response(LABELS[corpus], tokens)))
    def holds(text):
        assert cold_start.complaint(text, LABELS[corpus]) is None, text

    holds()


@given(of(forms.of_profiles(NAMES)))
def test_what_has_the_form_of_profiles_names_everyone(text):
    assert personas.complaint(text, NAMES[:-1]) is None, text


@pytest.mark.parametrize("gold", ["Joyful", "Neutral"])
def test_what_has_the_form_of_a_soft_label_keeps_the_gold_one_heaviest(gold):
    @given(of(forms.of_label(gold, LABELS["emorynlp"])))
    def holds(text):
        assert soft_labels.complaint(text, gold, LABELS["emorynlp"]) is None, text

    holds()


def test_an_expert_s_answer_has_its_form_and_one_that_breaks_the_rule_has_not():
    form = forms.of_response(LABELS["meld"], 1024)
    answer = (
        '<think>She won, I am glad.</think>\n{"last_emotions": {"joy": 0.9, "surprise": 0.4}, '
        '"my_emotions": {"joy": 1.0}, "my_output": "Don\'t say so!"}'
    )
    assert re.fullmatch(form, answer)
    for wrong in ('"joy": 0.4, "joy"', '"joy": 0.9, "glee"', '"joy": 0.0, "anger"'):
        broken = answer.replace('"joy": 0.9, "surprise"', wrong)
        assert broken != answer and not re.fullmatch(form, broken)


@pytest.mark.parametrize(("tokens", "most"), [(128, 400), (256, 750), (1024, 880), (8192, 880)])
def test_a_response_of_its_form_has_room_for_its_dictionary_in_few_tokens(tokens, most):
    form = forms.of_response(LABELS["iemocap"], tokens)
    thought, reply = map(int, re.findall(r"\{0,([0-9]+)\}", form))
    pairs = 2 * len('{"frustrated": 0.9, "frustrated": 0.9}')
    frame = len('<think></think>\n{"last_emotions": , "my_emotions": , "my_output": ""}')
    assert thought + reply + pairs + frame <= most


def test_a_corpus_with_one_label_has_a_form():
    assert re.fullmatch(forms.of_label("calm", ["calm"]), 'So. {"calm": 1.0}')
    answer = (
        '<think>So.</think>\n{"last_emotions": {"calm": 1.0}, "my_emotions": {"calm": 0.1}, '
        '"my_output": "Yes"}'
    )
    assert re.fullmatch(forms.of_response(["calm"], 1024), answer)
    assert cold_start.complaint(answer, ["calm"]) is None
