"""The weak teacher: no noise, systematic errors, answers that a dialogue can go on from."""

from __future__ import annotations

import pytest

from data_prep.experts.offline import WEIGHTS, guess_feelings, profile, respond, topic_of
from data_prep.sample_dialogues import dialogues
from data_prep.sample_lines import NAMES
from rewards.labels import corpus_labels
from rewards.parse import parse_output

ADA = {"name": "Ada", "profile": "A brief person."}


def said(text, speaker="Gil"):
    return [{"speaker": speaker, "text": text}]


def answer(text, corpus="meld"):
    return parse_output(respond(said(text), ADA, corpus), corpus_labels(corpus))


@pytest.mark.parametrize(
    ("text", "feeling"),
    [
        ("I got the job.", "joy"),
        ("I never got the job.", "sadness"),
        ("I got the fine.", "sadness"),
        ("I never got the fine.", "joy"),
        ("Tomorrow I will get the fine!", "fear"),
        ("Because of you, I got the fine.", "anger"),
        ("Did I get the job?", "neutral"),
        ("Nobody knows yet whether I got the job.", "neutral"),
        ("A stranger got the job!", "neutral"),
        ("The office opens at ten.", "neutral"),
    ],
)
def test_what_it_reads(text, feeling):
    assert guess_feelings(text)[0] == feeling


@pytest.mark.parametrize(
    ("line", "strong", "plain"),
    [
        ("Tomorrow {} got the fine", "fear", "sadness"),
        ("Because of you, {} got the fine", "anger", "sadness"),
        ("In secret they gave the job to {}", "surprise", "joy"),
    ],
)
def test_it_is_timid(line, strong, plain):
    """A strong feeling is named in one of three lines; in the others its sign alone."""
    named = [guess_feelings(line.format(f"speaker{i}"))[0] for i in range(600)]
    assert set(named) == {strong, plain}
    assert named.count(strong) / 600 == pytest.approx(1 / 3, abs=0.08)


@pytest.mark.parametrize("corpus", NAMES)
def test_every_answer_keeps_the_rule_and_names_three_labels(corpus):
    for lines in dialogues(5, corpus, "train", 300):
        context = [{"speaker": "Gil", "text": line.text} for line in lines]
        found = parse_output(respond(context, ADA, corpus), corpus_labels(corpus))
        assert found.valid
        assert tuple(found.last_emotions.values()) == WEIGHTS


def test_the_same_line_is_read_the_same_whoever_answers():
    """No noise: everything but the last line's words may change."""
    other = {"name": "Paz", "profile": "A lively person."}
    assert respond(said("I got the job."), ADA, "meld") == respond(said("I got the job."), other, "meld")


@pytest.mark.parametrize("corpus", NAMES)
def test_its_own_feeling_is_what_it_reads_in_its_reply(corpus):
    """A self-play row is labelled with `my_emotions`; the reply must show that feeling."""
    for lines in dialogues(5, corpus, "train", 300):
        first = parse_output(respond(said(lines[-1].text), ADA, corpus), corpus_labels(corpus))
        again = parse_output(respond(said(first.my_output), ADA, corpus), corpus_labels(corpus))
        assert max(again.last_emotions, key=again.last_emotions.get) in first.my_emotions, first


def test_the_reply_is_about_what_was_said():
    assert topic_of("They gave the grant to us.") == "grant"
    assert "grant" in answer("They gave the grant to us.").my_output
    assert topic_of("Yes!") == "news"


def test_no_name_gets_into_its_answer():
    assert respond(said("Hello.", speaker="<think>"), ADA, "meld") == respond(said("Hello."), ADA, "meld")


def test_profile_goes_by_the_look_of_lines():
    assert profile("Ada", ["Who?", "Where is it?"]) == "A brief and curious person."
