"""Does the model reward its own mistakes? What a run's files say about it, iteration by iteration.

Self-play rows are labelled by the model that later learns from them, and r2 (Eq. 12) pays for agreeing
with the own group. Neither sees a gold label. So the two are set against what does: the label
distribution of gold rows, the accuracy on gold prompts, and which mistakes stay.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import ttest_ind_from_stats

from advantage.self_grpo import core_distribution, self_grpo_advantages
from data_prep.rows import ground_truth
from recipe.evaluation.diversity import self_bleu
from recipe.evaluation.measures import INVALID
from rewards.iou import normalise
from rewards.labels import corpus_labels, heaviest


def label_shares(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, float]:
    """Share of every label in the rows' labels, each row weighing 1; sums to 1 unless there is no row."""
    weights = [normalise(ground_truth(row)) for row in rows]
    return {e: math.fsum(w.get(e, 0.0) for w in weights) / max(len(rows), 1) for e in labels}


def divergence(p: Sequence[float], q: Sequence[float]) -> float:
    """Jensen-Shannon divergence of two distributions in bits: 0 where they are equal, at most 1."""
    return float(jensenshannon(p, q, base=2) ** 2)  # scipy's is the distance, its square root


def label_drift(buffer: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """How far the self-labelled rows of B are from its gold rows, per corpus that has both.

    Returns:
        corpus -> ``self_rows``, ``divergence`` in bits, and the label shares ``gold`` and ``own``.
    """
    found = {}
    for corpus in sorted({row["data_source"] for row in buffer}):
        part = [row for row in buffer if row["data_source"] == corpus]
        own = [row for row in part if is_self_labelled(row)]
        gold = [row for row in part if not is_self_labelled(row)]
        if own and gold:
            labels = corpus_labels(corpus)
            shares = {"gold": label_shares(gold, labels), "own": label_shares(own, labels)}
            distance = divergence(*(list(s.values()) for s in shares.values()))
            found[corpus] = {"self_rows": len(own), "divergence": distance, **shares}
    return found


def is_self_labelled(row: Mapping[str, Any]) -> bool:
    """Did a model label this prompt?"""
    return row["extra_info"]["origin"] != "original"


def mistakes(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], most: int = 5
) -> dict[str, Any]:
    """What became of one checkpoint's mistakes in the next.

    Args:
        before: records of `recipe.evaluation.answers.score_answers`.
        after: the later checkpoint's, of the same rows.
        most: so many confusions at most are named.

    Returns:
        ``wrong_before`` and ``wrong_after``: shares of all rows; ``kept``: the share of the earlier
        mistakes that are made again, with the same wrong label (None if there was none); ``growing``: the
        confusions (corpus, gold, pred, before, after) that grew most. An invalid answer is wrong, but no
        confusion.

    Raises:
        ValueError: the two answered different rows.
    """
    first, second = ({r["row_id"]: r for r in records} for records in (before, after))
    if first.keys() != second.keys() or not first:
        raise ValueError("the checkpoints answered different rows, so their mistakes cannot be compared")
    wrong = {name: r["pred"] for name, r in first.items() if r["pred"] != r["gold"]}
    again = sum(second[name]["pred"] == pred for name, pred in wrong.items())
    counts = [
        Counter((r["corpus"], r["gold"], r["pred"]) for r in records if r["pred"] not in (r["gold"], INVALID))
        for records in (before, after)
    ]
    growth = {pair: counts[1][pair] - counts[0][pair] for pair in counts[1]}
    growing = sorted((pair for pair in growth if growth[pair] > 0), key=lambda p: (-growth[p], p))[:most]
    return {
        "wrong_before": len(wrong) / len(first),
        "wrong_after": sum(r["pred"] != r["gold"] for r in after) / len(first),
        "kept": again / len(wrong) if wrong else None,
        "growing": [(*pair, counts[0][pair], counts[1][pair]) for pair in growing],
    }


@dataclass(frozen=True)
class Group:
    """The rollouts of one prompt at one step, in a few numbers.

    Attributes:
        self_labelled: a model labelled the prompt, so ``accuracy`` and ``reward`` are against that label.
        consensus: p* of Eq. 11, most likely first; empty if no rollout is valid.
        right: is its first label the prompt's? None without a consensus.
        self_bleu: of the group's valid replies; None with less than two.
        reward_part: mean absolute advantage from R alone (Eq. 13 with λ = 0).
        consensus_part: mean absolute rest of the advantage that was used, λ's effect.
        turned: share of the rollouts that R alone would have pushed the other way.
    """

    step: int
    row_id: str
    corpus: str
    self_labelled: bool
    accuracy: float
    reward: float
    r2: float
    lam: float
    consensus: dict[str, float]
    right: bool | None
    self_bleu: float | None
    reward_part: float
    consensus_part: float
    turned: float


def describe_group(rollouts: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Group:
    """One group in numbers.

    Args:
        rollouts: the trainer's records of one prompt at one step.
        row: the prompt.
    """
    labels = list(row["extra_info"]["labels"])
    parsed = [json.loads(r["parsed"]) for r in rollouts]
    consensus = core_distribution([p["last_emotions"] for p in parsed], labels)
    gold = heaviest(ground_truth(row), labels)
    # In the precision of the trainer, whose rounding shows where all rewards of a group are equal.
    rewards = np.array([r["score"] for r in rollouts], dtype=np.float32)
    used = np.array([r["advantage"] for r in rollouts], dtype=np.float32)
    plain = self_grpo_advantages(rewards, np.zeros(len(rewards)), [0] * len(rewards), lam=0.0)
    return Group(
        step=rollouts[0]["step"],
        row_id=row["extra_info"]["row_id"],
        corpus=row["data_source"],
        self_labelled=is_self_labelled(row),
        accuracy=float(np.mean([r["acc"] for r in rollouts])),
        reward=float(np.mean([r["score"] for r in rollouts])),
        r2=float(np.mean([r["r2"] for r in rollouts])),
        lam=rollouts[0]["lam"],
        consensus=consensus,
        right=next(iter(consensus)) == gold if consensus else None,
        self_bleu=self_bleu([p["my_output"] for p, r in zip(parsed, rollouts, strict=True) if r["valid"]]),
        reward_part=float(np.abs(plain).mean()),
        consensus_part=float(np.abs(used - plain).mean()),
        turned=float((used * plain < 0).mean()),
    )


def describe_stage(groups: Sequence[Group]) -> dict[str, float | int | None]:
    """Means over the groups of an RL stage (or of some of its steps); None where there is no such group.

    ``wrong_consensus`` counts gold prompts only, and only groups that have a consensus;
    ``lambda_share`` is the consensus part's share of the mean absolute advantage, before the two add up.
    """
    gold = [g for g in groups if not g.self_labelled]
    own = [g for g in groups if g.self_labelled]
    rewards = _mean([g.reward_part for g in groups]) or 0.0
    consensus = _mean([g.consensus_part for g in groups]) or 0.0
    return {
        "groups": len(groups),
        "self_groups": len(own),
        "gold_accuracy": _mean([g.accuracy for g in gold]),
        "gold_reward": _mean([g.reward for g in gold]),
        "self_reward": _mean([g.reward for g in own]),
        "r2": _mean([g.r2 for g in groups]),
        "wrong_consensus": _mean([not g.right for g in gold if g.right is not None]),
        "no_consensus": _mean([g.right is None for g in gold]),
        "self_bleu": _mean([g.self_bleu for g in groups if g.self_bleu is not None]),
        "lambda_share": consensus / (rewards + consensus) if rewards + consensus else None,
        "turned": _mean([g.turned for g in groups]),
    }


@dataclass(frozen=True)
class Point:
    """One moment of a run, as the warning sees it.

    Attributes:
        right: accuracy on gold labels, one number per independent group or utterance.
        self_rewards: name -> mean of a reward that knows no gold label.
    """

    name: str
    right: Sequence[float]
    self_rewards: Mapping[str, float]


def point_of(name: str, groups: Sequence[Group]) -> Point:
    """The moment that some groups of an RL stage show."""
    gold = [g for g in groups if not g.self_labelled]
    means = {
        "R on self-labelled prompts": _mean([g.reward for g in groups if g.self_labelled]),
        "r2, the agreement with the own group,": _mean([g.r2 for g in gold]),
    }
    return Point(name, [g.accuracy for g in gold], {k: v for k, v in means.items() if v is not None})


def first_and_last(name: str, groups: Sequence[Group]) -> tuple[Point, Point] | None:
    """The first and the last quarter of a stage's steps; None for less than two steps."""
    steps = sorted({g.step for g in groups})
    if len(steps) < 2:
        return None
    quarter = max(len(steps) // 4, 1)
    early, late = set(steps[:quarter]), set(steps[-quarter:])
    return (
        point_of(f"the first steps of {name}", [g for g in groups if g.step in early]),
        point_of("its last steps", [g for g in groups if g.step in late]),
    )


class Alarm(NamedTuple):
    """A sentence, and whether the fall in accuracy is more than chance would often do."""

    text: str
    clear: bool


def warnings(pairs: Sequence[tuple[Point, Point]]) -> list[Alarm]:
    """One for each pair of moments in which gold accuracy falls while a self-reward rises, clear ones first.

    A fall is clear with p <= 0.05 in a one-sided Welch test; one that may be chance is told and says so.
    """
    found = []
    for before, after in pairs:
        if not len(before.right) or not len(after.right):
            continue
        accuracy = [float(np.mean(point.right)) for point in (before, after)]
        shared = [name for name in before.self_rewards if name in after.self_rewards]
        rising = [n for n in shared if after.self_rewards[n] > before.self_rewards[n] + 1e-9]
        if accuracy[1] < accuracy[0] - 1e-9 and rising:
            rewards = " and ".join(
                f"{n} rose from {before.self_rewards[n]:.3f} to {after.self_rewards[n]:.3f}" for n in rising
            )
            clear, chance = _chance(before.right, after.right)
            text = (
                f"From {before.name} to {after.name} accuracy on gold labels fell from {accuracy[0]:.3f} to "
                f"{accuracy[1]:.3f} ({chance}) while {rewards}: the model may be rewarding its own mistakes."
            )
            found.append(Alarm(text, clear))
    return sorted(found, key=lambda alarm: not alarm.clear)


def _chance(before: Sequence[float], after: Sequence[float]) -> tuple[bool, str]:
    """Is a fall clear, and why, in words."""
    if min(len(before), len(after)) < 2:
        return False, "too few groups for a test, so this may be chance"
    if np.ptp(before) == np.ptp(after) == 0:
        return True, "all groups alike"
    sides = (f(x) for x in (before, after) for f in (np.mean, lambda x: np.std(x, ddof=1), len))
    p = ttest_ind_from_stats(*sides, equal_var=False, alternative="greater").pvalue
    return bool(p <= 0.05), f"one-sided p = {p:.2g}" + (", so this may be chance" if p > 0.05 else "")


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
