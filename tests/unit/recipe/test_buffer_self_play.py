"""Self-play rows of B: who recognises whom, what is carried over, what makes a prompt the same."""

from __future__ import annotations

import copy

import pytest

from data_prep.corpora.dialogue import Dialogue, Utterance
from data_prep.prepare import LISTENER, dialogue_rows
from data_prep.prompt import PromptTemplates, render
from recipe.buffer import (
    content_hash,
    next_recogniser,
    self_play_row,
)
from rewards.labels import LABELS
from tests.unit.recipe.buffer_rows import ANN, BOB, CYD, TEMPLATES, grown, rollout


def turns(*speakers: str):
    return [{"speaker": s, "text": "..."} for s in speakers]


@pytest.mark.parametrize(
    ("speakers", "responder", "wanted"),
    [
        (("Ann", "Bob", "Ann"), "Bob", ANN),
        (("Ann", "Cyd", "Bob"), "Bob", CYD),  # the most recent other one, although Ann was there, too
        (("Ann", "Cyd", "Bob", "Bob"), "Bob", CYD),
        (("Bob", "Bob"), "Bob", ANN),  # nobody else has spoken yet: any other persona
        (("Ann",), "Bob", ANN),
    ],
)
def test_next_recogniser(speakers, responder, wanted):
    assert next_recogniser(turns(*speakers), responder, [BOB, ANN, CYD]) == wanted


def test_next_recogniser_of_a_monologue():
    assert next_recogniser(turns("Ann", "Ann"), "Listener", [ANN]) == ANN
    assert next_recogniser(turns("Ann", "Ann"), "Ann", [ANN]) is None
    assert next_recogniser(turns("Zoe"), "Ann", [ANN])["name"] == "Zoe"


def test_self_play_row(make_prompt_row):
    row = make_prompt_row(label={"joy": 1.0})
    kept = copy.deepcopy(row)
    chosen = rollout(score=0.7, r2=2 / 3, step=4, index=5, reply=" Good \n for\tyou! ")
    new = self_play_row(row, chosen, TEMPLATES, iteration=2, model="abc123")
    info = new["extra_info"]
    assert row == kept  # the parent is left alone
    context = [
        {"speaker": "Ann", "text": "Hello."},
        {"speaker": "Bob", "text": "Hi."},
        {"speaker": "Ann", "text": "I won!"},
        {"speaker": "Bob", "text": "Good for you!"},
    ]
    assert info["context"] == context
    assert info["speaker"] == "Bob"  # whose emotions are recognised now
    assert info["persona"] == {"name": "Ann", "profile": "Ann is Ann."}  # and by whom
    assert new["reward_model"] == {
        "style": "rule",
        "ground_truth": pytest.approx({"joy": 0.75, "surprise": 0.25}),
    }
    assert new["prompt"] == render(context, info["persona"], LABELS["meld"], TEMPLATES)
    assert new["response"] is None
    assert {k: info[k] for k in ("split", "dialogue_id", "labels", "personas")} == {
        k: row["extra_info"][k] for k in ("split", "dialogue_id", "labels", "personas")
    }
    lineage = ("origin", "iteration", "turn", "parent", "rollout_index", "step", "reward", "r2", "model")
    assert [info[k] for k in lineage] == ["self_play", 2, 1, "meld:d1:3", 5, 4, 0.7, 2 / 3, "abc123"]
    assert info["row_id"] != row["extra_info"]["row_id"] and info["row_id"].startswith("meld:self:")


def test_self_play_goes_on_for_several_iterations(make_prompt_row):
    first = self_play_row(make_prompt_row(), rollout(reply="One."), TEMPLATES, iteration=1, model="m")
    second = self_play_row(
        first, rollout(first["extra_info"]["row_id"], reply="Two."), TEMPLATES, iteration=2, model="m"
    )
    assert [t["text"] for t in second["extra_info"]["context"]] == ["Hello.", "Hi.", "I won!", "One.", "Two."]
    assert [t["speaker"] for t in second["extra_info"]["context"]] == ["Ann", "Bob", "Ann", "Bob", "Ann"]
    assert second["extra_info"]["persona"]["name"] == "Bob"
    assert second["extra_info"]["parent"] == first["extra_info"]["row_id"]


def test_a_listener_keeps_its_profile_when_its_turn_comes_again():
    # A monologue's persona is nobody of the dialogue, but its PI goes into the prompt as well.
    alone = Dialogue("meld", "train", "d2", (Utterance("0", "Ann", "I won!", "joy"),))
    (row,) = dialogue_rows(alone, TEMPLATES)
    assert row["extra_info"]["persona"] == LISTENER
    first = self_play_row(row, rollout(), TEMPLATES, iteration=1, model="m")
    assert first["extra_info"]["persona"]["name"] == "Ann"
    second = self_play_row(first, rollout(first["extra_info"]["row_id"]), TEMPLATES, iteration=2, model="m")
    assert second["extra_info"]["persona"] == LISTENER


def test_nobody_to_recognise(make_prompt_row):
    row = make_prompt_row(turns=(("Ann", "Hm."),), persona="Ann")
    assert self_play_row(row, rollout(), TEMPLATES, iteration=1, model="m") is None
    assert len(grown([row], [rollout()])[0]) == 1


def test_feelings_that_are_no_labels_are_dropped_from_the_new_label(make_prompt_row):
    row = make_prompt_row()
    mixed = rollout(mine={"joy": 0.6, "curiosity": 0.5})
    new = self_play_row(row, mixed, TEMPLATES, iteration=1, model="m")
    assert new["reward_model"]["ground_truth"] == {"joy": 1.0}
    strange = rollout(mine={"curiosity": 0.5})
    assert self_play_row(row, strange, TEMPLATES, iteration=1, model="m") is None


def test_the_identity_of_a_prompt():
    context = turns("Ann", "Bob")
    same = content_hash("meld", [dict(t, more=1) for t in context], {"name": "Ann", "profile": "other"})
    assert content_hash("meld", context, ANN) == same
    for corpus, other, persona in (
        ("iemocap", context, ANN),
        ("meld", context, BOB),
        ("meld", context[:1], ANN),
        ("meld", context[::-1], ANN),
    ):
        assert content_hash(corpus, other, persona) != same


def test_self_play_keeps_the_theme(make_prompt_row):
    row = make_prompt_row("a", theme="parting")
    new = self_play_row(row, rollout("a"), PromptTemplates("{theme}", "{history}"), iteration=1, model="m")
    assert new["extra_info"]["theme"] == "parting" and new["prompt"][0]["content"] == "parting"
