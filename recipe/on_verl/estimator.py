"""`self_grpo` as a veRL advantage estimator (Eq. 13).

veRL hands an estimator the rewards and the prompt ids of a batch, but no predictions and no step.
The trainer therefore hands over r2 and lambda around its call of veRL's `_compute_advantage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from verl.trainer.ppo.core_algos import register_adv_est

from advantage.self_grpo import self_grpo_advantages


@dataclass(frozen=True)
class Consensus:
    """What Eq. 13 needs beside the rewards: r2 and the prompt id of each row, and lambda."""

    secondary: Sequence[float]
    uids: Sequence[str]
    lam: float


_handed_over: list[Consensus] = []


@contextmanager
def hand_over(consensus: Consensus) -> Iterator[None]:
    """Make ``consensus`` available to the estimator calls made inside the block."""
    _handed_over.append(consensus)
    try:
        yield
    finally:
        _handed_over.pop()


@register_adv_est("self_grpo")
def self_grpo(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: Any,
    config: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 13 over a batch, broadcast over the response tokens.

    Args:
        token_level_rewards: shape (rows, response length); their sum over a row is its reward r.
        response_mask: shape (rows, response length), 1 on response tokens.
        index: prompt id of each row, shape (rows,).
        config: veRL's algorithm configuration.

    Returns:
        Advantages and returns, the same tensor of shape (rows, response length).

    Raises:
        RuntimeError: no predictions were handed over, so the consensus cannot be computed.
        ValueError: they belong to other rows, or the configuration asks for Dr. GRPO's scaling.
    """
    if not _handed_over:
        raise RuntimeError(
            "adv_estimator=self_grpo needs the rollouts' predictions, which SelfEmoTrainer hands over; "
            "start it with `python -m recipe.main` (or use adv_estimator=grpo)"
        )
    if config is not None and not config.get("norm_adv_by_std_in_grpo", True):
        raise ValueError("self_grpo divides by the standard deviation; use norm_adv_by_std_in_grpo=True")
    consensus = _handed_over[-1]
    if list(index) != list(consensus.uids):
        raise ValueError("the predictions handed over belong to other rows than the rewards")
    with torch.no_grad():
        rewards = token_level_rewards.sum(dim=-1)
        advantages = self_grpo_advantages(
            rewards, torch.tensor(consensus.secondary, dtype=torch.float64), list(index), consensus.lam
        )
        tokens = advantages.unsqueeze(-1) * response_mask
    return tokens, tokens
