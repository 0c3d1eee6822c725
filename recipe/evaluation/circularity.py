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
from typing import Any

import numpy as np

from advantage.self_grpo import core_distribution, self_grpo_advantages
from data_prep.rows import ground_truth
from recipe.evaluation.confidence import describe, majority_vote
from recipe.evaluation.diversity import self_bleu
from recipe.evaluation.intervals import clustered_mean
from recipe.evaluation.measures import INVALID, calibration
from rewards.iou import normalise
from rewards.labels import corpus_labels, heaviest

#: Rewards and advantages that differ by less are alike: single precision, and the ε of Eq. 13.
_ALIKE = 1e-6


def label_shares(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, float]:
    """Share of every label in the rows' labels, each row weighing 1; sums to 1 unless there is no row."""
    return _shares([ground_truth(row) for row in rows], labels)


def _shares(given: Sequence[Mapping[str, float]], labels: Sequence[str]) -> dict[str, float]:
    weights = [normalise(label) for label in given]
    return {e: math.fsum(w.get(e, 0.0) for w in weights) / max(len(weights), 1) for e in labels}


def divergence(p: Sequence[float], q: Sequence[float]) -> float:
    """Jensen-Shannon divergence of two distributions in bits: 0 where they are equal, at most 1."""
    from scipy.spatial.distance import jensenshannon

    return float(jensenshannon(p, q, base=2) ** 2)  # scipy's is the distance, its square root


def label_drift(
    buffer: Sequence[Mapping[str, Any]], real_next: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, Any]]:
    """How far the labels that the model made are from the gold labels of the turns that they stand for.

    A self-play row replaces the persona's real next utterance by the model's reply, and that utterance's
    gold label by the model's `my_emotions`. So the two are compared, prompt by prompt: gold rows as a whole
    have another label distribution than next turns, which would be no drift. Rows that continue a
    self-play row, or a prompt whose next utterance is unknown, have no counterpart and are left out.

    Args:
        buffer: B.
        real_next: row_id -> gold label, of `recipe.evaluation.next_turn.real_next_labels`.

    Returns:
        corpus -> ``self_rows``: self-labelled rows; ``compared``: how many of them have a counterpart;
        ``divergence`` in bits of the label shares ``own`` and ``gold`` of the latter; ``agreement``: the
        share of them whose heaviest labels are the same. Corpora without a counterpart are left out.
    """
    found = {}
    for corpus in sorted({row["data_source"] for row in buffer}):
        own = [row for row in buffer if row["data_source"] == corpus and is_self_labelled(row)]
        compared = [row for row in own if row["extra_info"]["parent"] in real_next]
        if not compared:
            continue
        labels = corpus_labels(corpus)
        real = [real_next[row["extra_info"]["parent"]] for row in compared]
        shares = {"gold": _shares(real, labels), "own": label_shares(compared, labels)}
        same = [
            heaviest(ground_truth(row), labels) == heaviest(dict(label), labels)
            for row, label in zip(compared, real, strict=True)
        ]
        found[corpus] = {
            "self_rows": len(own),
            "compared": len(compared),
            "divergence": divergence(*(list(s.values()) for s in shares.values())),
            "agreement": sum(same) / len(same),
            **shares,
        }
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
        dialogue: corpus and dialogue of the prompt.
        self_labelled: a model labelled the prompt, so everything that is right or wrong, and ``reward`` and
            ``twin``, are against that label.
        accuracy: share of right rollouts; ``passed``: is one right?; ``vote_right``: is the label that most
            valid rollouts hold for the heaviest?, None without a valid one.
        reward: mean R; ``twin``: mean of its fixed-weight twin (`recipe.evaluation.confidence`).
        sharp_one, sharp_three: mean R had the rollouts been surer (`recipe.evaluation.confidence`).
        gold_weight: p(gold): mean normalised weight on the prompt's heaviest label, 0 for a broken rollout.
        sure: of each valid rollout the heaviest label's normalised weight, and whether that label is right.
        top_weight: mean normalised weight of the heaviest label of the valid rollouts, in [0, 1];
            ``named``: mean number of labels that they name; both None without a valid one.
        consensus: p* of Eq. 11, most likely first; empty if no rollout is valid.
        right: is its first label the prompt's? None without a consensus.
        r2_gap: mean r2 of right minus wrong valid rollouts; None where there is only one kind.
        self_bleu: of the group's valid replies; None with less than two.
        reward_part: mean absolute advantage from R alone (Eq. 13 with λ = 0).
        consensus_part: mean absolute rest of the advantage that was used, λ's effect.
        turned: share of the rollouts that R alone would have pushed the other way; None where all
            rewards are alike, so that R alone pushes nowhere.
        flips: how many those are; ``right_flips``: how many of them λ turned for the better, a right
            rollout upwards or a wrong one downwards.
    """

    step: int
    row_id: str
    corpus: str
    dialogue: str
    self_labelled: bool
    accuracy: float
    passed: bool
    vote_right: bool | None
    reward: float
    twin: float
    sharp_one: float
    sharp_three: float
    gold_weight: float
    sure: tuple[tuple[float, bool], ...]
    top_weight: float | None
    named: float | None
    r2: float
    r2_gap: float | None
    lam: float
    consensus: dict[str, float]
    right: bool | None
    self_bleu: float | None
    reward_part: float
    consensus_part: float
    turned: float | None
    flips: int
    right_flips: int


def describe_group(rollouts: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Group:
    """One group in numbers.

    Args:
        rollouts: the trainer's records of one prompt at one step.
        row: the prompt.
    """
    info, label = row["extra_info"], ground_truth(row)
    labels = list(info["labels"])
    parsed = [json.loads(r["parsed"]) for r in rollouts]
    said = [p["last_emotions"] for p in parsed]
    consensus = core_distribution(said, labels)
    gold, vote = heaviest(label, labels), majority_vote(said, labels)
    parts = [describe(p, label, labels) for p in said]
    right = np.array([r["acc"] == 1 for r in rollouts])
    valid = np.array([bool(p) for p in said])
    r2 = np.array([r["r2"] for r in rollouts], dtype=float)
    kinds = valid & right, valid & ~right
    # In the trainer's precision; where all rewards are alike, what it computes is rounding.
    rewards = np.array([r["score"] for r in rollouts], dtype=np.float32)
    used = np.array([r["advantage"] for r in rollouts], dtype=np.float32)
    spread = bool(np.ptp(rewards) > _ALIKE)
    plain = self_grpo_advantages(rewards, np.zeros(len(rewards)), [0] * len(rewards), lam=0.0)
    if len(rewards) > 1 and not spread:
        plain = np.zeros_like(plain)
    turned = (used * plain < 0) & (np.abs(plain) > _ALIKE) & spread
    return Group(
        step=rollouts[0]["step"],
        row_id=info["row_id"],
        corpus=row["data_source"],
        dialogue=f"{row['data_source']}/{info['dialogue_id']}",
        self_labelled=is_self_labelled(row),
        accuracy=_mean_of_some([r["acc"] for r in rollouts]),
        passed=bool(right.any()),
        vote_right=None if vote is None else vote == gold,
        reward=_mean_of_some([r["score"] for r in rollouts]),
        **{
            name: _mean_of_some([part[name] for part in parts])
            for name in ("twin", "sharp_one", "sharp_three", "gold_weight")
        },
        sure=tuple(
            (part["top_weight"], bool(hit)) for part, hit in zip(parts, right, strict=True) if part["named"]
        ),
        top_weight=_mean([part["top_weight"] for part in parts if part["named"]]),
        named=_mean([part["named"] for part in parts if part["named"]]),
        r2=float(r2.mean()),
        r2_gap=float(r2[kinds[0]].mean() - r2[kinds[1]].mean()) if all(k.any() for k in kinds) else None,
        lam=rollouts[0]["lam"],
        consensus=consensus,
        right=next(iter(consensus)) == gold if consensus else None,
        self_bleu=self_bleu([p["my_output"] for p, r in zip(parsed, rollouts, strict=True) if r["valid"]]),
        reward_part=float(np.abs(plain).mean()),
        consensus_part=float(np.abs(used - plain).mean()),
        turned=float(turned.mean()) if spread else None,
        flips=int(turned.sum()),
        right_flips=int((turned & ((used > 0) == right)).sum()),
    )


def describe_stage(groups: Sequence[Group]) -> dict[str, float | int | None]:
    """Means over the groups of an RL stage (or of some of its steps); None where there is no such group.

    Whatever is named after gold, and ``pass_at_n``, ``vote_accuracy``, ``twin``, ``sharp_one``,
    ``sharp_three``, ``top_weight``, ``named``, ``ece`` and ``wrong_consensus`` count gold prompts only.
    ``gold_weight`` is p(gold), ``ece`` that of `recipe.evaluation.measures.calibration`. ``pass_at_n``: share
    of groups in which at least one rollout names the right heaviest label; ``vote_accuracy``: share in which
    most do (no valid rollout: wrong). ``wrong_consensus`` counts only groups that have a consensus;
    ``lambda_share`` is the consensus part's share of the mean absolute advantage, before the two add up;
    ``turned`` is over groups whose rewards differ.
    """
    gold = [g for g in groups if not g.self_labelled]
    own = [g for g in groups if g.self_labelled]
    sure = [one for g in gold for one in g.sure]
    rewards = _mean([g.reward_part for g in groups]) or 0.0
    consensus = _mean([g.consensus_part for g in groups]) or 0.0
    return {
        "groups": len(groups),
        "self_groups": len(own),
        "gold_accuracy": _mean([g.accuracy for g in gold]),
        "pass_at_n": _mean([g.passed for g in gold]),
        "vote_accuracy": _mean([bool(g.vote_right) for g in gold]),
        "gold_reward": _mean([g.reward for g in gold]),
        "twin": _mean([g.twin for g in gold]),
        "sharp_one": _mean([g.sharp_one for g in gold]),
        "sharp_three": _mean([g.sharp_three for g in gold]),
        "gold_weight": _mean([g.gold_weight for g in gold]),
        "ece": calibration(*zip(*sure, strict=True))["ece"] if sure else None,
        "top_weight": _mean([g.top_weight for g in gold if g.top_weight is not None]),
        "named": _mean([g.named for g in gold if g.named is not None]),
        "self_reward": _mean([g.reward for g in own]),
        "r2": _mean([g.r2 for g in groups]),
        "wrong_consensus": _mean([not g.right for g in gold if g.right is not None]),
        "no_consensus": _mean([g.right is None for g in gold]),
        "self_bleu": _mean([g.self_bleu for g in groups if g.self_bleu is not None]),
        "lambda_share": consensus / (rewards + consensus) if rewards + consensus else None,
        "turned": _mean([g.turned for g in groups if g.turned is not None]),
    }


def r2_information(groups: Sequence[Group]) -> dict[str, Any]:
    """What r2 (Eq. 12) knows of right and wrong, and what λ makes of it, on gold prompts.

    Returns:
        ``gap``: an `Estimate` over dialogues of the mean r2 of right minus wrong valid rollouts of a group
        that has both (None without one; r2 lies in [0, 1], and 0 says that it knows nothing); ``flips``:
        advantages whose sign λ turned, in groups whose rewards differ; ``right_flips``: the share of them
        that it turned for the better (None without one).
    """
    gold = [g for g in groups if not g.self_labelled]
    gaps = [(g.r2_gap, g.dialogue) for g in gold if g.r2_gap is not None]
    flips = sum(g.flips for g in gold)
    return {
        "gap": clustered_mean([gap for gap, _ in gaps], [dialogue for _, dialogue in gaps]),
        "flips": flips,
        "right_flips": sum(g.right_flips for g in gold) / flips if flips else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return _mean_of_some(values) if len(values) else None


def _mean_of_some(values: Sequence[float]) -> float:
    return float(np.mean(values))
