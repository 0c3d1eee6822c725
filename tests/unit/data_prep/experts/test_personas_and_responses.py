"""What experts are asked for: personas and cold-start responses, each checked."""

from __future__ import annotations

import pytest

from data_prep.corpora.dialogue import Dialogue, Utterance
from data_prep.experts import cold_start, personas
from tests.unit.expert_requests import settings

DIALOGUE = Dialogue(
    "meld",
    "train",
    "7",
    tuple(
        Utterance(str(i), speaker, text, "joy")
        for i, (speaker, text) in enumerate([("Ann", "I {won}!"), ("Bo", "Great."), ("Ann", "Yes.")])
    ),
)


def test_personas_are_asked_for_and_checked(server, tmp_path):
    good = 'Ann is glad. {not this}\n{"Ann": "A lively\nperson.", '
    good += '"Bo": "A\\u202e calm\\u0007 person.", "Theme": "Winning"}'
    replies = iter(['{"Ann": "A lively person.", "Theme": "Winning"}', good.replace("\nperson", " person")])
    server.reply = lambda body: next(replies)
    profiles, answers = personas.ask_personas([DIALOGUE], settings(server), tmp_path)
    assert profiles == {
        "meld:train:7": {"Ann": "A lively person.", "Bo": "A calm person.", "Theme": "Winning"}
    }
    assert "lacks Bo" in server.bodies[1]["messages"][-1]["content"] and answers.rejects == []
    asked = server.bodies[0]["messages"][1]["content"]
    assert "Ann: I {won}!\nBo: Great.\nAnn: Yes." in asked and "Speakers: Ann, Bo\n" in asked


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no dictionary", "ends with no dictionary"),
        ("{'Ann': 'x', 'Theme': 1}", "must map names to text"),
        ("{'Ann': 'x', 'Theme': 'y', 'Zed': 'z'}", "names Zed, who does not speak"),
        ("{'Ann': ' ', 'Theme': 'y'}", "the text of Ann is empty"),
        ("{'Ann': 'x', 'Theme': '\\u200b\u3164'}", "the text of Theme is empty"),
        ("{'Ann': '%s', 'Theme': 'y'}" % ("x" * 601), "longer than one sentence"),
        ("{'Ann': __import__('os').getcwd(), 'Theme': 'y'}", "ends with no dictionary"),
        ("analysis\n{'Ann': 'x', 'Theme': 'y'}", None),
        ('Analysis. {{"Ann": "A friendly woman.", "Theme": "A quarrel."}}', None),
        ("{{{'Ann': 'x', 'Theme': 'y'}}}", None),
        ("{'Ann': 'a', 'Theme': 'b'} and no {others}", None),
        ('{"Ann": "x", "Ann": "y", "Theme": "z"}', "'Ann' stands twice"),
        ("{('Ann',): 'x', 'Theme': 'y'}", "keys of the dictionary must be text"),
        ("{['Ann']: 'x', 'Theme': 'y'}", "ends with no dictionary"),
        ("{" * 50_000 + "x" + "}" * 50_000, "ends with no dictionary"),
        ("{'a': " * 20_000, "ends with no dictionary"),
        ("{'Ann': " + "9" * 5_000 + "}", "ends with no dictionary"),
        ('```python\n{"Ann": "x {y}", "Theme": "z"}\n```', None),
    ],
)
def test_answers_about_personas(text, said):
    found = personas.complaint(text, ["Ann"])
    assert found is None if said is None else said in found


def test_cold_start_responses_go_through_the_rule_of_rollouts(server, tmp_path):
    from data_prep.prepare import dialogue_rows
    from data_prep.prompt import load_templates

    rows = list(dialogue_rows(DIALOGUE, load_templates("compact")))
    good = (
        "<think>x</think>\n{'last_emotions': {'joy': 1.0}, 'my_emotions': {'joy': 0.5}, 'my_output': 'Yes.'}"
    )

    def reply(body):
        asked = body["messages"]
        if "Bo: Great." in asked[1]["content"] and len(asked) < 4:
            return "```python\n" + good + "\n```"  # fenced: the rule wants the dictionary last
        return good if "Ann: Yes." not in asked[1]["content"] else good.replace("joy", "Bliss")

    server.reply = reply
    responses, answers = cold_start.ask_responses(rows, settings(server, reasks=1), tmp_path)
    assert responses == {"meld:7:0": ("one", good), "meld:7:1": ("one", good)}
    (reject,) = answers.rejects
    assert reject["name"] == "respond:meld:7:2" and "only the allowed labels" in reject["reason"]
    assert any("without a code fence" in b["messages"][-1]["content"] for b in server.bodies)
    assert "First think between" in server.bodies[0]["messages"][0]["content"]  # the full instructions


def test_every_reason_of_the_rule_has_words():
    from rewards.parse import REASONS

    assert set(cold_start.COMPLAINTS) == set(REASONS)
