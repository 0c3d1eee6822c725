"""Alarms: a run that pays the model for its own mistakes, and one whose answers collapse onto one label.

The first is the circularity of self-play and of r2, which know no gold label. The second has nothing to do
with them: R pays for being sure (`recipe.evaluation.confidence`), so a policy can earn more by saying the
most frequent label with more weight and forgetting the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recipe.evaluation.checkpoint_tests import changes
from recipe.evaluation.circularity import Group
from recipe.evaluation.measures import summarise
from recipe.evaluation.permutation_tests import paired_permutation, unpaired_permutation
from recipe.evaluation.rl_stages import first_and_last_quarter

#: Rewards that know no gold label, as the alarms call them.
OWN_LABELS = "R on self-labelled prompts"
AGREEMENT = "r2, the agreement with the own group,"
_COLLAPSE = "the answers collapse: reward up, macro-F1 down, one label takes over"


class Reading(NamedTuple):
    """One number that was measured on a prompt; numbers of one dialogue are not independent."""

    prompt: str
    dialogue: str
    value: float


@dataclass(frozen=True)
class Point:
    """One moment of a run, as the warning sees it.

    Attributes:
        right: accuracy on gold labels, a reading per group or utterance.
        self_rewards: name (`OWN_LABELS`, `AGREEMENT`) -> readings of a reward that knows no gold label;
            only what was paid for.
    """

    name: str
    right: Sequence[Reading]
    self_rewards: Mapping[str, Sequence[Reading]]


def point_of(name: str, groups: Sequence[Group]) -> Point:
    """The moment that some groups of an RL stage show; r2 is a reward where λ is above 0."""
    gold = [g for g in groups if not g.self_labelled]
    paid = {
        OWN_LABELS: [Reading(g.row_id, g.dialogue, g.reward) for g in groups if g.self_labelled],
        AGREEMENT: [Reading(g.row_id, g.dialogue, g.r2) for g in gold] if any(g.lam for g in groups) else [],
    }
    right = [Reading(g.row_id, g.dialogue, g.accuracy) for g in gold]
    return Point(name, right, {k: v for k, v in paid.items() if v})


def first_and_last(name: str, groups: Sequence[Group]) -> tuple[Point, Point] | None:
    """The first and the last quarter of a stage's steps; None for less than two steps."""
    quarters = first_and_last_quarter(g.step for g in groups)
    if quarters is None:
        return None
    early, late = quarters
    return (
        point_of(f"the first steps of {name}", [g for g in groups if g.step in early]),
        point_of("its last steps", [g for g in groups if g.step in late]),
    )


class Alarm(NamedTuple):
    """A sentence, whether what it tells is more than chance would often do, and a headline of a few words."""

    text: str
    clear: bool
    title: str


def warnings(pairs: Sequence[tuple[Point, Point]]) -> list[Alarm]:
    """One for each pair of moments in which gold accuracy falls while a self-reward rises, clear ones first.

    Clear: the fall and a rise each have p <= 0.05 in a one-sided permutation test (`falls`); what may be
    chance is told and says so. The p-values are not corrected for the number of moments.
    """
    found = []
    for before, after in pairs:
        if not before.right or not after.right:
            continue
        accuracy = [_level(point.right) for point in (before, after)]
        shared = [name for name in before.self_rewards if name in after.self_rewards]
        levels = {n: [_level(point.self_rewards[n]) for point in (before, after)] for n in shared}
        rising = [n for n in shared if levels[n][1] > levels[n][0] + 1e-9]
        if accuracy[1] >= accuracy[0] - 1e-9 or not rising:
            continue
        p, how = falls(before.right, after.right)
        rises = {n: falls(after.self_rewards[n], before.self_rewards[n]) for n in rising}
        rewards = " and ".join(
            f"{n} rose from {levels[n][0]:.3f} to {levels[n][1]:.3f} ({rises[n][1]})" for n in rising
        )
        clear = p is not None and p <= 0.05
        clear = clear and any(q is not None and q <= 0.05 for q, _ in rises.values())
        text = (
            f"From {before.name} to {after.name} accuracy on gold labels fell from {accuracy[0]:.3f} to "
            f"{accuracy[1]:.3f} ({how}) while {rewards}: {_meaning(rising)}"
        )
        title = "accuracy on gold labels fell while " + (
            "the reward on labels of the model's own making rose"
            if OWN_LABELS in rising
            else "the agreement within the groups, which λ pays for, rose"
        )
        found.append(Alarm(text if clear else f"{text} This may be chance.", clear, title))
    return sorted(found, key=lambda alarm: not alarm.clear)


def _meaning(rising: Sequence[str]) -> str:
    if OWN_LABELS in rising:
        return "the model may be rewarding its own mistakes, by the labels that it made."
    return (
        "the groups agree more and are right less; no label of the model's own making plays a part in this."
    )


def falls(before: Sequence[Reading], after: Sequence[Reading]) -> tuple[float | None, str]:
    """Do the readings fall by more than chance would often do? One-sided permutations of dialogues.

    Where at least half of the prompts of either side are the other's, too, those are paired; otherwise the
    dialogues are dealt out again.

    Args:
        before: one or more readings.
        after: one or more of a later moment.

    Returns:
        p (None where there are too few dialogues for any p to reach 0.05), and how it was found, in words.
    """
    a, b = _by_prompt(before), _by_prompt(after)
    shared = sorted(a.keys() & b.keys())
    if 2 * len(shared) >= max(len(a), len(b)):
        dialogues = [a[prompt].dialogue for prompt in shared]
        how = f"paired on {len(shared)} prompts of {len(set(dialogues))} dialogues"
        first, second = ([x[prompt].value for prompt in shared] for x in (a, b))
        enough = 2 ** len(set(dialogues)) >= 20
        p = paired_permutation(first, second, dialogues, alternative="greater") if enough else None
    else:
        first, second = ([r.value for r in x.values()] for x in (a, b))
        of_first, of_second = ([r.dialogue for r in x.values()] for x in (a, b))
        p = unpaired_permutation(first, of_first, second, of_second)
        how = f"{len(set(of_first))} and {len(set(of_second))} dialogues"
    return p, f"{how}, too few for a test" if p is None else f"one-sided p = {p:.2g}, {how}"


def _by_prompt(readings: Sequence[Reading]) -> dict[str, Reading]:
    values: dict[str, list[float]] = {}
    for reading in readings:
        values.setdefault(reading.prompt, []).append(reading.value)
    return {r.prompt: Reading(r.prompt, r.dialogue, float(np.mean(values[r.prompt]))) for r in readings}


def _level(readings: Sequence[Reading]) -> float:
    return float(np.mean([r.value for r in readings]))


def _called(checkpoint: str, names: Mapping[str, str]) -> str:
    try:
        return names[checkpoint]  # not `get`, which knows nothing of names that are made when asked for
    except KeyError:
        return checkpoint


def collapses(records: Mapping[str, Sequence[Mapping[str, Any]]], names: Mapping[str, str]) -> list[Alarm]:
    """One for each two successive checkpoints between which the answers collapse, clear ones first.

    Args:
        records: checkpoint -> its records, in the order of training, all of the same rows.
        names: what checkpoints are called; a missing one is called by its key.

    Returns:
        Alarms where reward rises, macro-F1 falls and the share of the most frequent answer rises, all
        averaged over corpora. Clear: each of the three has p <= 0.05 in a one-sided permutation of
        dialogues, so together they are by chance in at most 5 % of the cases. Where the reward at fixed
        weights rises as well, frequent labels are gained by forgetting rare ones; else it is sureness alone.

    Raises:
        ValueError: two successive checkpoints answered different rows.
    """
    found = []
    for first, second in itertools.pairwise(records):
        change = changes(records[first], records[second])
        reward, f1, share = (change[m] for m in ("reward", "macro_f1", "majority_share"))
        up = reward.after > reward.before + 1e-9 and share.after > share.before + 1e-9
        if not up or f1.after >= f1.before - 1e-9:
            continue
        low, high = (summarise(records[stage])["avg"]["twin"] for stage in (first, second))
        ranked_better = high > low + 1e-9
        clear = max(reward.p_rise, f1.p_fall, share.p_rise) <= 0.05
        text = (
            f"From {_called(first, names)} to {_called(second, names)} the mean reward rose from "
            f"{reward.before:.3f} to {reward.after:.3f} (one-sided p = {reward.p_rise:.2g}) while macro-F1 "
            f"fell from {f1.before:.3f} to {f1.after:.3f} (p = {f1.p_fall:.2g}) and the most frequent label "
            f"went from {share.before:.0%} to {share.after:.0%} of the answers (p = {share.p_rise:.2g}); at "
            f"fixed weights the reward went from {low:.3f} to {high:.3f}: "
        ) + (
            "frequent labels are recognised more often, and rare ones are forgotten."
            if ranked_better
            else "the model earns more by saying one label more often and more surely, not by recognising "
            "better."
        )
        found.append(Alarm(text if clear else f"{text} This may be chance.", clear, _COLLAPSE))
    return sorted(found, key=lambda alarm: not alarm.clear)
