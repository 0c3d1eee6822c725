"""What a run achieved: one picture, one sentence, three lines; the page and the terminal say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipe.evaluation.intervals import Interval
from recipe.evaluation.results import STAGE_NAMES, is_checkpoint
from recipe.evaluation.seeds import Gain, gain_over_seeds
from recipe.pages.figures import Figure, course_chart

Records = Sequence[Mapping[str, Any]]
#: Measure of a summary's ``avg`` -> its column in the three lines.
COLUMNS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "reward": "reward R",
    "twin": "R at fixed weights",
    "valid": "keeps the rule",
}


@dataclass(frozen=True)
class Headline:
    """The top of the page.

    Attributes:
        sentence: what happened.
        lines: first and last checkpoint and the baseline that is right most often -> measures of `COLUMNS`,
            None where a run does not have one.
        picture: all checkpoints, all baselines; None before two checkpoints are scored.
    """

    sentence: str
    lines: dict[str, dict[str, float | None]]
    picture: Figure | None


def headline(
    results: Mapping[str, Mapping[str, Any]],
    records: Mapping[str, Records],
    intervals: Mapping[str, Mapping[str, Mapping[str, Interval]]],
) -> Headline:
    """What the measures of a run come to.

    Args:
        results: stage -> corpus (and ``avg``) -> measures, in the order of training.
        records: stage -> its records; a stage without any has no interval.
        intervals: stage -> corpus -> measure -> 95 % interval.
    """
    made = [stage for stage in results if is_checkpoint(stage) and stage != "base"]
    baselines = [stage for stage in results if not is_checkpoint(stage)]
    best = max(baselines, key=lambda stage: results[stage]["avg"]["accuracy"], default=None)
    shown = dict.fromkeys([*made[:1], *made[-1:], *([best] if best else [])])
    lines = {STAGE_NAMES[s]: {m: results[s]["avg"].get(m) for m in COLUMNS} for s in shown}
    if len(made) < 2:
        done = f"{STAGE_NAMES[made[0]]} is scored" if made else "no checkpoint of this run is scored yet"
        return Headline(f"{done[0].upper()}{done[1:]}.", lines, None)
    points = [
        (
            STAGE_NAMES[stage],
            results[stage]["avg"]["accuracy"],
            intervals[stage]["avg"]["accuracy"] if stage in intervals else None,
        )
        for stage in made
    ]
    others = {STAGE_NAMES[s]: results[s]["avg"]["accuracy"] for s in baselines}
    picture = course_chart(points, others)
    first, last = made[0], made[-1]
    gain = None
    if first in records and last in records:
        gain = gain_over_seeds({"this run": (records[first], records[last])})
    return Headline(_sentence(results, first, last, gain), lines, picture)


def _sentence(results: Mapping[str, Mapping[str, Any]], first: str, last: str, gain: Gain | None) -> str:
    before, after = (results[stage]["avg"]["accuracy"] for stage in (first, last))
    n = results[last]["avg"]["n"]
    text = f"On {n:,} held-out utterances accuracy went from {before:.3f} ({STAGE_NAMES[first]}) to "
    text += f"{after:.3f} ({STAGE_NAMES[last]})"
    if gain is None:
        return text + "."
    text += f": {gain.mean:+.3f}"
    if gain.interval is None:
        return text + "; there are too few dialogues to say how sure that is."
    low, high = gain.interval
    text += f", 95 % interval {low:+.3f} to {high:+.3f} over dialogues"
    if low > 0:
        return text + ": it has learnt to recognise more."
    if high < 0:
        return text + ": it recognises less than at its start."
    return text + ": no clear change."


def as_text(found: Headline) -> str:
    """The same for a terminal, without the picture."""
    width = max(map(len, found.lines), default=0) + 2
    heads = "".join(f"{name:>20}" for name in COLUMNS.values())
    rows = [f"{'':<{width}}{heads}"]
    for title, values in found.lines.items():
        cells = ("–" if (x := values[m]) is None else f"{x:.3f}" for m in COLUMNS)
        rows.append(f"{title:<{width}}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(["", *rows, "", found.sentence])
