"""RL of a real run: advantages that reached the actor, weights that reached vLLM, what a step logs."""

from __future__ import annotations

import ast
import json
import math
import statistics
from collections import defaultdict

import pytest
import torch

from tests.stack.flywheel_run import PROMPTS, ROLLOUTS, STEPS, metrics, rollouts

pytestmark = [pytest.mark.stack, pytest.mark.timeout(2100)]


def test_advantages_that_reached_the_actor_are_those_of_eq_13(run):
    """Recomputed here from the rollouts' text, with nothing of the project's code; in iteration 2, where
    prompts that the model labelled itself are among them."""
    seen = [json.loads(line) for line in run["recorded"].read_text().splitlines()]
    steps = range(1, STEPS + 1)
    assert len(seen) == len(steps) * PROMPTS * ROLLOUTS
    assert all(len(row["values"]) == 1 for row in seen)  # one advantage on all tokens of a response
    for i, step in enumerate(steps):
        part = seen[i * PROMPTS * ROLLOUTS : (i + 1) * PROMPTS * ROLLOUTS]
        expected = expected_advantages(rollouts(run["folder"], step, k=2), lam=step / STEPS)
        assert sorted(row["values"][0] for row in part) == pytest.approx(sorted(expected), abs=2e-4)
        assert len({round(value, 3) for value in expected}) > 3  # the step had something to say


def expected_advantages(rows: list[dict], lam: float) -> list[float]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["uid"]].append(row)
    advantages = []
    for group in groups.values():
        assert len(group) == ROLLOUTS
        predictions = [prediction(row) for row in group]
        mass = {label: math.fsum(p.get(label, 0.0) for p in predictions) for label in group[0]["labels"]}
        ranked = sorted((label for label in mass if mass[label] > 0), key=lambda e: -round(mass[e], 9))
        top = ranked[:3]
        # A label counts as named from a twentieth of the weight on (self_emo.min_named_weight).
        secondary = [sum(p.get(label, 0.0) >= 0.05 for label in top) / 3 for p in predictions]
        first = standard([row["score"] for row in group], torch.float32)
        second = standard(secondary, torch.float64)
        advantages += [a + lam * b for a, b in zip(first, second, strict=True)]
    return advantages


def prediction(row: dict) -> dict[str, float]:
    if row["score"] == 0.0:
        return {}
    spelling = {label.casefold(): label for label in row["labels"]}
    tail = row["response"].split("</think>")[1]
    found = last_dictionary(tail.strip())["last_emotions"]
    total = math.fsum(found.values())
    return {spelling[label.casefold()]: weight / total for label, weight in found.items()}


def last_dictionary(text: str) -> dict:
    """The dictionary that ``text`` ends with; a small model sometimes stammers before it."""
    for start in (i for i, char in enumerate(text) if char == "{"):
        try:
            return ast.literal_eval(text[start:])
        except SyntaxError:
            continue
    raise AssertionError(text)


def standard(values: list[float], dtype: torch.dtype) -> list[float]:
    """Rewards are float32 in veRL, r2 is not: beside so small an epsilon the rounding of a mean shows (eight
    times 2/3 in float32 are .028 away from their mean)."""
    numbers = torch.tensor(values, dtype=dtype)
    mean = numbers.sum() / len(numbers)
    spread = ((numbers - mean).square().sum() / (len(numbers) - 1)).sqrt()
    return ((numbers - mean) / (spread + 1e-6)).tolist()


def test_rollout_and_actor_agree_after_weight_updates(run):
    for step, data in metrics(run["folder"]).items():
        # vLLM's log-probabilities are the old ones; if it has the actor's weights they are the new ones.
        assert abs(data["actor/ppo_kl"]) <= 2e-4, step
        assert data["actor/pg_clipfrac"] == 0, step
    updates = [data["actor/grad_norm"] for data in metrics(run["folder"]).values()]
    assert min(updates) > 0


def test_what_a_step_logs(run):
    for step, data in metrics(run["folder"]).items():
        assert data["self_emo/lambda"] == step / STEPS
        rows = rollouts(run["folder"], step)
        assert data["self_emo/reward"] == pytest.approx(statistics.fmean(r["score"] for r in rows))
        assert data["self_emo/r2"] == pytest.approx(statistics.fmean(r["r2"] for r in rows))
        assert data["self_emo/iou"] == pytest.approx(statistics.fmean(r["iou"] for r in rows))
        failures = sum(value for name, value in data.items() if name.startswith("rule_failure/"))
        assert failures == pytest.approx(1 - data["self_emo/valid"])
        assert data["actor/entropy"] > 0
        assert 0 <= data["self_emo/r2_std_zero_share"] <= 1


def test_tensorboard_and_wandb_offline_keep_what_the_page_shows(run):
    """Both through veRL's own tracking; steps that the mishaps repeated are there more than once.

    What TensorBoard had not flushed when the driver was killed, up to two minutes, is in the metrics alone.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stage = run["folder"] / "iter_1/rl"
    events = EventAccumulator(str(stage / "tensorboard"))
    events.Reload()
    kept = metrics(run["folder"])
    for name in ("self_emo/reward", "self_emo/lambda", "actor/entropy"):
        last = {e.step: e.value for e in events.Scalars(name)}
        assert STEPS in last and last == pytest.approx({step: kept[step][name] for step in last}, rel=1e-5)
    written = b"".join(p.read_bytes() for p in stage.glob("wandb/offline-run-*/*.wandb"))
    assert list((run["folder"] / "iter_1/sft/tensorboard").iterdir())
    assert b"self_emo/reward" in written and str(kept[STEPS]["self_emo/reward"]).encode() in written
