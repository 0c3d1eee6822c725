"""Self-play (Algorithm 1, line 14): y* goes on as dialogues of the policy's own.

Reads: ``iter_<k-1>/buffer/buffer.parquet``, ``iter_<k>/rl/{rollouts,model}``, ``data/held_out.parquet``.
Leaves: ``iter_<k>/self_play/played_<turn>.parquet`` (d*_turn, with a response where one passed),
``samples_<turn>.parquet`` (all answers), and ``held_out.json``: how the dialogues that B never sees go on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import open_dict

from data_prep.files import write_json
from data_prep.rows import read_rows, write_rows
from recipe.buffer import best_rollouts, read_rollouts, self_play_row
from recipe.draws import at_most_alike, draw_mix
from recipe.models import weights
from recipe.models.fit_prompts import fit_rows
from recipe.run.process import run_stage
from recipe.run.run import Run
from recipe.turns import unique


def go_on(run: Run, work: Path, k: int) -> None:
    """Make d*_1 of every y* of iteration k, and let the policy answer for ``flywheel.turns`` turns."""
    flywheel, policy = run.config.flywheel, run.folder / f"iter_{k}/rl/model"
    first = first_rows(run, k)
    write_rows(first, work / "asked_1.parquet")
    write_json(work / "counts.json", {"first": len(first), "turns": flywheel.turns})
    held_out = run.folder / "data/held_out.parquet"
    if not flywheel.turns:  # prompts only, without responses
        write_rows(first, work / "played_1.parquet")
        return
    config = run.stage_config(f"iter_{k}-self_play")
    with open_dict(config):
        config.job = {
            "work": str(work),
            "policy": str(policy),
            "digest": weights.digest(policy),
            "iteration": k,
            "held_out": str(held_out) if held_out.exists() else None,
            "tokenizer": str(run.base),
        }
    run_stage("self_play", config, work, total=flywheel.turns)


def first_rows(run: Run, k: int) -> list[dict[str, Any]]:
    """d*_1 of iteration k: as many as B may take, no reply and no label too often."""
    flywheel, seed = run.config.flywheel, run.config.run.seed
    buffer = read_rows(run.folder / f"iter_{k - 1}/buffer/buffer.parquet")
    if not flywheel.mix.self_play:
        return []
    by_id = {row["extra_info"]["row_id"]: row for row in buffer}
    best = best_rollouts(read_rollouts(run.folder / f"iter_{k}/rl/rollouts"), flywheel.min_reward)
    model = weights.digest(run.folder / f"iter_{k}/rl/model")
    rows = [
        new
        for row_id, rollout in best.items()
        if (new := self_play_row(by_id[row_id], rollout, run.templates, iteration=k, model=model))
    ]
    rows = [row for row in unique(rows) if row["extra_info"]["row_id"] not in by_id]
    rows = [rows[i] for i in at_most_alike(rows, flywheel.same_reply, seed)]
    original = [row for row in buffer if row["extra_info"]["origin"] == "original"]
    mix = {"original": None, "self_play": flywheel.mix.self_play}
    drawn = [r for r in draw_mix([*original, *rows], mix, seed) if r["extra_info"]["origin"] == "self_play"]
    return fit_rows(drawn, run.base, run.config, run.templates)[0]


def played_rows(run: Run, k: int) -> list[dict[str, Any]]:
    """All rows that the self-play of iteration k left, turn after turn."""
    paths = sorted(
        (run.folder / f"iter_{k}/self_play").glob("played_*.parquet"),
        key=lambda path: int(path.stem.removeprefix("played_")),
    )
    return [row for path in paths for row in read_rows(path)]
