"""The page of `make annotate`: how often each emotion was read, and the course of every dialogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from recipe.annotation.records import Annotation
from recipe.annotation.tables import Summary
from recipe.pages.figures import emotion_colours, emotion_course
from recipe.pages.render import render_page

#: The page shows so many dialogues, from the first on, and so many utterances of each; the tables have all.
SHOWN_DIALOGUES, SHOWN_UTTERANCES = 50, 100


def render_annotations(
    dialogues: Sequence[Sequence[Annotation]],
    summary: Summary,
    labels: Sequence[str],
    checkpoint: str,
    file: str,
    tables: Mapping[str, Path],
) -> str:
    """The page.

    Args:
        dialogues: that are shown, at most `SHOWN_UTTERANCES` utterances of each.
        summary: of all.
        labels: in their order.
        checkpoint, file: who has read what, for people.
        tables: the files beside the page.
    """
    return render_page(
        "annotation.html.j2",
        shown=[{"lines": lines, "picture": _picture(lines, labels)} for lines in dialogues],
        summary=summary,
        facts=summary.lines(),
        colours=emotion_colours(labels),
        checkpoint=checkpoint,
        file=file,
        tables=[path.name for path in tables.values()],
        most=SHOWN_UTTERANCES,
        labelled=summary.labelled > 0,
    )


def _picture(lines: Sequence[Annotation], labels: Sequence[str]) -> object:
    people = len({line.speaker for line in lines})
    caption = f"{len(lines)} utterances, {people} {'person' if people == 1 else 'people'}; x: no emotions."
    return emotion_course(
        [line.emotions for line in lines], [line.speaker for line in lines], labels, caption
    )
