"""The page of annotations: every shown dialogue has its picture, and what is left out is said."""

from __future__ import annotations

import re
from pathlib import Path

from recipe.annotation.records import Annotation
from recipe.annotation.tables import Summary, count_annotations
from recipe.pages.annotation import SHOWN_UTTERANCES, render_annotations
from recipe.pages.figures import emotion_colours, emotion_course

LABELS = ("calm", "<tense>", "glad")


def line(i: int, emotions: dict[str, float], label: str | None = None, **changes) -> Annotation:
    problem = None if emotions else "no_think"
    values = {
        "dialogue_id": "d", "utterance_id": str(i), "line": i + 2, "speaker": "Ann", "text": f"text {i}",
        "label": label, "emotion": next(iter(emotions), None), "emotions": emotions, "problem": problem,
        "answers": ["said"],
    }  # fmt: skip
    return Annotation(**values | changes)


def page(dialogues, shown: int) -> tuple[str, Summary]:
    summary = Summary()
    kept = list(count_annotations(dialogues, LABELS, summary))[:shown]
    kept = [dialogue[:SHOWN_UTTERANCES] for dialogue in kept]
    return render_annotations(kept, summary, LABELS, "run:rl", "mine.csv", {"csv": Path("a b.csv")}), summary


def test_what_all_come_to_and_what_is_not_shown():
    short = [line(0, {"glad": 0.7, "calm": 0.3}, "glad"), line(1, {}, "calm")]
    long = [line(i, {"<tense>": 1.0}, speaker="Bob") for i in range(SHOWN_UTTERANCES + 5)]
    text, summary = page([short, long, short], shown=2)
    assert summary.emotions == {"calm": 0, "<tense>": 105, "glad": 2} and summary.problems == {"no_think": 2}
    assert (summary.labelled, summary.agreeing, summary.utterances) == (4, 2, 109)
    assert text.count("<svg") == 2 and "The first 2 of 3 dialogues are shown" in text
    assert text.count(f"shown up to its utterance {SHOWN_UTTERANCES}") == 1
    assert "50.0% of the 4 labels" in text and "96.3 %" in text and 'href="a%20b.csv"' in text
    assert "<tense>" not in text and "glad 0.70, calm 0.30" in text and '<span class="bad">no_think' in text
    assert "dialogues are shown" not in page([short], shown=2)[0]


def test_bars_are_as_high_as_the_weights_and_stand_on_each_other():
    svg = emotion_course([{"glad": 0.75, "calm": 0.25}, {}], ["A$n$n", "名前"], LABELS, "").svg
    colours = emotion_colours(LABELS)
    heights = {}
    for path, style in re.findall(r'<path d="M ([^"]+)" clip-path="[^"]+" style="fill: (#\w+)', svg):
        ys = sorted({float(y) for y in re.findall(r"[\d.]+ ([\d.]+)", path)})
        heights[style] = ys[-1] - ys[0], ys[-1]
    glad, calm = heights[colours["glad"]], heights[colours["calm"]]
    assert abs(glad[0] - 3 * calm[0]) < 1e-3 and glad[1] - glad[0] - calm[1] < 1e-3, "SVG's y goes down"
    assert "A$n$n" in svg and "名前" in svg


def test_colours_differ_as_long_as_there_are_some():
    assert len(set(emotion_colours([str(i) for i in range(20)]).values())) == 20
    assert len(emotion_colours([str(i) for i in range(45)])) == 45
