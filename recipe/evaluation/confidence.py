"""Is a reward earned by ranking the labels better, or by being surer? What takes the two apart.

With a one-hot label IoU = w / (2 - w) is convex in the weight w of the right label, so being surer pays,
right or wrong. So beside R of Eq. 8 stand the reward of the same ranking with fixed weights, which only a
better ranking can raise, and what the same answers would have earned had they only been surer.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.iou import RULE_BONUS, fixed_weight_twin, normalise, weighted_iou

#: Name of a sharpened baseline -> its weights, before they are normalised.
SHARPENED = {"one": (1.0,), "three": (0.9, 0.1, 0.1)}


def ranking(last_emotions: Mapping[str, float], labels: Sequence[str]) -> list[str]:
    """The labels of an answer, heaviest first; equal ones in the corpus's order.

    Raises:
        ValueError: a label is not one of ``labels``.
    """
    return sorted(last_emotions, key=lambda e: (-last_emotions[e], list(labels).index(e)))


def fixed_weight_reward(
    last_emotions: Mapping[str, float], gold: Mapping[str, float], labels: Sequence[str]
) -> float:
    """R (Eq. 8-10) of the same ranking with fixed weights (`rewards.iou.fixed_weight_twin`).

    With a one-hot label on the first place any answer has an IoU of 0.7 / 1.3.

    Args:
        last_emotions: label -> weight of an answer; empty where it breaks the rule.
        gold: label -> weight.
        labels: of the corpus, in its order.

    Returns:
        A number in {0} ∪ [0.1, 1.1].

    Raises:
        ValueError: a label is not one of ``labels``.
    """
    if not last_emotions:
        return 0.0
    return weighted_iou(fixed_weight_twin(last_emotions, labels), gold) + RULE_BONUS


def sharpened_reward(
    last_emotions: Mapping[str, float],
    gold: Mapping[str, float],
    labels: Sequence[str],
    weights: Sequence[float],
) -> float:
    """R of the same ranking with other weights, normalised over the labels that are left.

    Args:
        last_emotions, gold, labels: as in `fixed_weight_reward`.
        weights: of the first, second, ... label; a label without one is dropped.

    Returns:
        A number in {0} ∪ [0.1, 1.1]: what the answer would have earned.
    """
    if not last_emotions:
        return 0.0
    return weighted_iou(dict(zip(ranking(last_emotions, labels), weights, strict=False)), gold) + RULE_BONUS


def describe(
    last_emotions: Mapping[str, float], gold: Mapping[str, float], labels: Sequence[str]
) -> dict[str, float]:
    """One answer's parts.

    Returns:
        ``twin``: `fixed_weight_reward`; ``sharp_one`` and ``sharp_three``: `sharpened_reward`;
        ``top_weight``: the heaviest label's normalised weight, ``gold_weight``: the gold label's (the
        heaviest one of ``gold``), both in [0, 1]; ``named``: labels named. All 0 for an invalid answer.
    """
    weights = normalise(last_emotions)
    right = ranking(gold, labels)[0]
    return {
        "twin": fixed_weight_reward(last_emotions, gold, labels),
        **{f"sharp_{n}": sharpened_reward(last_emotions, gold, labels, w) for n, w in SHARPENED.items()},
        "top_weight": max(weights.values(), default=0.0),
        "gold_weight": weights.get(right, 0.0),
        "named": float(len(weights)),
    }


def split_reward(records: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, float | None]:
    """Means of `describe` over the answers to one corpus.

    Args:
        records: of `recipe.evaluation.answers.score_answers`; those of older runs have no ``label``, and
            their ``gold`` counts as one-hot.
        labels: of the corpus.

    Returns:
        As `describe`. ``twin``, the sharpened rewards and ``gold_weight`` over all answers; ``top_weight``
        and ``named`` over the valid ones, None where there is none.

    Raises:
        ValueError: there is no record.
    """
    if not records:
        raise ValueError("no records to describe")
    found = [
        describe(json.loads(r["parsed"])["last_emotions"], r.get("label") or {r["gold"]: 1.0}, labels)
        for r in records
    ]
    valid = [f for f in found if f["named"]]
    means: dict[str, float | None] = {
        name: math.fsum(f[name] for f in found) / len(found)
        for name in ("twin", "sharp_one", "sharp_three", "gold_weight")
    }
    for name in ("top_weight", "named"):
        means[name] = math.fsum(f[name] for f in valid) / len(valid) if valid else None
    return means


def majority_vote(said: Sequence[Mapping[str, float]], labels: Sequence[str]) -> str | None:
    """The label that most answers hold for the heaviest.

    Ties go to the label with more normalised weight over all answers, then to the corpus's order.

    Args:
        said: label -> weight per answer; empty where the rule is broken, which is no vote.
        labels: of the corpus.

    Returns:
        The label; None without a vote.
    """
    valid = [normalise(p) for p in said if p]
    votes = Counter(ranking(p, labels)[0] for p in valid)
    weights = {e: math.fsum(p.get(e, 0.0) for p in valid) for e in votes}
    return max(votes, key=lambda e: (votes[e], weights[e], -list(labels).index(e)), default=None)
