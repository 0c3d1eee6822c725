"""Data selection (Algorithm 1, lines 11-13, 15-16): the best response ever to a prompt, and d*, into B.

Reads: ``iter_<k-1>/buffer/buffer.parquet``, ``iter_<k>/rl/rollouts`` and ``iter_<k>/self_play``. Leaves:
``iter_<k>/buffer/{buffer.parquet,draw.json,counts.json}``.
"""

from __future__ import annotations

from pathlib import Path

from data_prep.files import write_json
from data_prep.rows import read_rows, write_rows
from recipe.buffer import best_rollouts, grow, read_rollouts
from recipe.models import weights
from recipe.run.run import Run
from recipe.steps.self_play import played_rows


def best(run: Run, work: Path, k: int) -> None:
    """y* of every prompt where it is better than what B holds, and the rows of self-play (Eq. 7)."""
    flywheel = run.config.flywheel
    buffer, counts, draw = grow(
        read_rows(run.folder / f"iter_{k - 1}/buffer/buffer.parquet"),
        best_rollouts(read_rollouts(run.folder / f"iter_{k}/rl/rollouts"), flywheel.min_reward),
        played_rows(run, k),
        iteration=k,
        model=weights.digest(run.folder / f"iter_{k}/rl/model"),
        min_reward=flywheel.min_reward,
        same_reply=flywheel.same_reply,
        mix=flywheel.mix,
        seed=run.config.run.seed,
    )
    write_rows(buffer, work / "buffer.parquet")
    write_json(work / "draw.json", {"mix": draw})
    write_json(work / "counts.json", counts)
