"""Data selection (Algorithm 1, lines 11-16): the best rollout of every prompt flows back into B.

Reads: ``iter_<k-1>/buffer/buffer.parquet`` and ``iter_<k>/rl/rollouts``. Leaves:
``iter_<k>/buffer/{buffer.parquet,draw.json,counts.json}``.
"""

from __future__ import annotations

from pathlib import Path

from data_prep.files import write_json
from data_prep.rows import read_rows, write_rows
from recipe.buffer import grow, read_rollouts
from recipe.models import weights
from recipe.run.run import Run


def best(run: Run, work: Path, k: int) -> None:
    """Lines 11-16 of iteration k: y* of every prompt, and d* = (C_new, Label_new) of every y* (Eq. 7)."""
    flywheel = run.config.flywheel
    buffer, counts, draw = grow(
        read_rows(run.folder / f"iter_{k - 1}/buffer/buffer.parquet"),
        read_rollouts(run.folder / f"iter_{k}/rl/rollouts"),
        run.templates,
        iteration=k,
        model=weights.digest(run.folder / f"iter_{k}/rl/model"),
        min_reward=flywheel.min_reward,
        mix=flywheel.mix,
        seed=run.config.run.seed,
    )
    write_rows(buffer, work / "buffer.parquet")
    write_json(work / "draw.json", {"mix": draw})
    write_json(work / "counts.json", counts)
