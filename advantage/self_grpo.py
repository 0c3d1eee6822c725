"""SELF-GRPO (Eq. 11-13): GRPO plus a reward for agreeing with the group's consensus.

For the n rollouts of one prompt, with p_i the normalised predicted emotions of rollout i:

    p~(e)  = sum_i p_i(e) / sum_e' sum_i p_i(e')        consensus over the group
    p*     = p~ restricted to its three largest entries, renormalised            (Eq. 11)
    r2_i   = 1/3 * |{e in top-3 : rollout i predicts e}|                          (Eq. 12)
    A_i    = (r_i - mean r) / (std r + eps) + lam * (r2_i - mean r2) / (std r2 + eps)  (Eq. 13)

It departs from GRPO only in the second term: lam = 0 gives GRPO's advantages to the last bit.
lam grows as t / T, so that a group explores early and agrees late.

Degenerate cases: a rollout whose rule failed predicts nothing, so it adds nothing to the consensus
and has r2 = 0; the divisor stays 3 when fewer labels occur; equal likelihoods are ordered as the
corpus orders its labels; a group whose r2 are all equal gets no second term; a group of one keeps
its reward as its advantage (mean 0, std 1, as veRL does) and gets no second term.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from rewards.iou import normalise

if TYPE_CHECKING:  # loading it takes two seconds, which what only counts labels need not wait for
    import torch

TOP = 3
# Two sums of the same weights in another order may differ in the last bits; such labels are tied.
_TIE_DIGITS = 12
_LARGEST = sys.float_info.max


def core_distribution(
    predictions: Sequence[Mapping[str, float] | None], label_order: Sequence[str]
) -> dict[str, float]:
    """The group's core emotions p* (Eq. 11).

    Args:
        predictions: one mapping label -> weight per rollout; empty or None where the rule failed.
        label_order: the corpus's labels; the earlier wins a tie.

    Returns:
        At most three labels, most likely first, weights summing to 1; empty if nobody predicts.

    Raises:
        ValueError: a predicted label is not in ``label_order``.
    """
    shares: dict[str, list[float]] = {label: [] for label in label_order}
    for prediction in predictions:
        for label, weight in normalise(prediction or {}).items():
            if label not in shares:
                raise ValueError(f"predicted label {label!r} is not one of {list(label_order)}")
            shares[label].append(weight)
    mass = {label: math.fsum(weights) for label, weights in shares.items() if weights}
    total = math.fsum(mass.values())
    rank = {label: i for i, label in enumerate(label_order)}
    top = sorted(mass, key=lambda e: (-round(mass[e] / total, _TIE_DIGITS), rank[e]))[:TOP]
    return normalise({e: mass[e] for e in top})


def secondary_rewards(
    predictions: Sequence[Mapping[str, float] | None],
    label_order: Sequence[str],
    min_named_weight: float = 0.0,
) -> list[float]:
    """How many of the group's core emotions each rollout names, in thirds (Eq. 12).

    Args:
        predictions, label_order: as in `core_distribution`, which counts every weight.
        min_named_weight: a label counts as named from this normalised weight on. 0 is the letter of Eq. 12:
            whatever has a weight is named, which Eq. 8 hardly notices, so that r2 can be had for nothing.

    Returns:
        One of {0, 1/3, 2/3, 1} per rollout; 0 where the rule failed.

    Raises:
        ValueError: as `core_distribution`, or ``min_named_weight`` is outside [0, 1].
    """
    if not _lies_in(min_named_weight, 1.0):
        raise ValueError(f"min_named_weight must lie in [0, 1], got {min_named_weight!r}")
    core = core_distribution(predictions, label_order)
    shares = [normalise(p or {}) for p in predictions]
    # A share that is the threshold but for its last bits counts.
    least = min_named_weight - 10.0**-_TIE_DIGITS
    named = [{e for e, w in p.items() if w >= least} for p in shares]
    return [sum(e in labels for e in core) / TOP for labels in named]


def progress(step: int, total: int) -> float:
    """The consensus weight lam = t / T of Eq. 13, linear in the step (1-based), at most 1.

    Raises:
        ValueError: ``total`` is not positive or ``step`` is negative.
    """
    if not (_lies_in(step, _LARGEST) and _lies_in(total, _LARGEST) and total):
        raise ValueError(f"lambda = t/T needs t >= 0 and T > 0, got t={step!r}, T={total!r}")
    return min(step / total, 1.0)


def self_grpo_advantages(
    rewards: Any,
    secondary: Any,
    groups: Sequence[Hashable],
    lam: float,
    eps: float = 1e-6,
) -> Any:
    """Advantages of a batch of rollouts (Eq. 13).

    Args:
        rewards: r, shape (rows,), array or tensor.
        secondary: r2, shape (rows,).
        groups: the prompt of each row, any hashable; rows of a group need not be adjacent.
        lam: the consensus weight in [0, 1].
        eps: added to each standard deviation, which is unbiased as in veRL's `grpo`.

    Returns:
        Shape (rows,), a tensor if ``rewards`` is one, else a numpy array, in the rewards' precision.

    Raises:
        ValueError: the three are not of one length and one-dimensional, lam is outside [0, 1], or a reward is
            not finite: it would make the advantages of its whole group NaN.
    """
    import torch

    if not _lies_in(eps, _LARGEST):
        raise ValueError(f"eps must be a finite number of at least 0, got {eps!r}")
    r = _as_float_tensor(rewards)
    r2 = _as_float_tensor(secondary).to(torch.float64)
    # Numbers in a tensor are told apart by place, not by value: every row would be a group of its own.
    groups = groups.tolist() if isinstance(groups, torch.Tensor) else groups
    if not (r.ndim == r2.ndim == 1 and len(r) == len(r2) == len(groups)):
        raise ValueError(
            f"rewards {tuple(r.shape)}, secondary {tuple(r2.shape)} and {len(groups)} groups do not align"
        )
    if not _lies_in(lam, 1.0):
        raise ValueError(f"lambda must lie in [0, 1], got {lam!r}")
    _check_finite("reward", r, groups)
    _check_finite("secondary reward", r2, groups)
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    advantages = torch.empty_like(r)
    for rows in members.values():
        advantages[rows] = _standardise(r[rows], eps) if len(rows) > 1 else r[rows] / (1.0 + eps)
        if len(rows) > 1 and lam:
            advantages[rows] += (lam * _standardise(r2[rows], eps)).to(r.dtype)
    return advantages if isinstance(rewards, torch.Tensor) else advantages.numpy()


def _lies_in(value: Any, most: float) -> bool:
    """Is it a number from 0 to ``most``? No word, no null, no NaN."""
    try:
        return bool(0 <= value <= most)
    except TypeError:
        return False


def _check_finite(name: str, values: torch.Tensor, groups: Sequence[Hashable]) -> None:
    broken = (~values.isfinite()).nonzero().flatten().tolist()
    if broken:
        row = broken[0]
        more = f", and {len(broken) - 1} more row(s)" if len(broken) > 1 else ""
        raise ValueError(f"the {name} of row {row} (group {groups[row]!r}) is {values[row].item()}{more}")


def _standardise(values: torch.Tensor, eps: float) -> torch.Tensor:
    spread = values.std() + eps
    return (values - values.mean()) / spread if spread > 0 else 0.0 * values  # eps=0, all are equal


def _as_float_tensor(values: Any) -> torch.Tensor:
    import torch

    if isinstance(values, torch.Tensor):
        tensor = values.detach()
    else:
        array = np.array(values)
        if array.dtype == object and all(v is None or isinstance(v, Real) for v in array.flat):
            array = array.astype(np.float64)  # None is NaN, whose row is named
        if array.dtype.kind not in "biuf":
            raise ValueError(f"rewards must be numbers, got an array of {array.dtype}")
        tensor = torch.from_numpy(array)
    return tensor if tensor.is_floating_point() else tensor.to(torch.float64)
