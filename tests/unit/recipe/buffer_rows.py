"""A rollout as the trainer records it, people who play, and B as it grows by them."""

from __future__ import annotations

import json

from data_prep.prompt import load_templates
from recipe.buffer import (
    best_rollouts,
    grow,
    self_play_row,
)

TEMPLATES = load_templates("compact")
MIX = {"original": 100, "self_play": 100}
#: As the label of most original rows here: self-play gets no larger share of a label than they have.
FELT = {"neutral": 1.0}
ANN, BOB, CYD = ({"name": n, "profile": f"{n}'s profile."} for n in ("Ann", "Bob", "Cyd"))


def rollout(
    row_id: str = "meld:d1:3", score: float = 0.9, r2: float = 1 / 3, step: int = 1, index: int = 0, **more
):
    parsed = {
        "last_emotions": {"joy": 1.0},
        "my_emotions": more.pop("mine", {"joy": 0.6, "surprise": 0.2}),
        "my_output": more.pop("reply", "Good for you!"),
    }
    return {
        "row_id": row_id,
        "score": score,
        "r2": r2,
        "step": step,
        "rollout_index": index,
        "parsed": json.dumps(parsed, ensure_ascii=False),
        "response": f"response {score} {r2} {step} {index}",
        **more,
    }


def grown(buffer, rollouts, **changes):
    """B after the rollouts and the d*_1 of the best of them, without an answer to those."""
    settings = {"iteration": 1, "model": "abc", "min_reward": 0.1, "mix": MIX, "seed": 1, "same_reply": 1.0}
    settings |= changes
    best = best_rollouts(rollouts, settings["min_reward"])
    by_id = {row["extra_info"]["row_id"]: row for row in buffer}
    lineage = {name: settings[name] for name in ("iteration", "model")}
    played = [self_play_row(by_id[i], r, TEMPLATES, **lineage) for i, r in best.items() if i in by_id]
    return grow(buffer, best, [row for row in played if row], **settings)[:2]
