"""The checkpoint's prediction for every test row, so that others can compare row by row."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from recipe.evaluation.predictions import FOLDER
from recipe.publishing.finished import Finished
from recipe.publishing.licences import closed_corpora


def predicted_corpora(run: Finished) -> list[str]:
    """Corpora whose predictions the run has kept; none where it was scored by an older version."""
    return sorted(path.stem for path in _folder(run).glob("*.parquet"))


def copy_predictions(run: Finished, target: Path) -> None:
    """Copy ``eval/<checkpoint>/predictions`` into a folder that is there.

    Of a corpus that may not be passed on the labels are left out; where there is one, also all answers, since
    any of them may quote it.
    """
    corpora = predicted_corpora(run)
    closed = [] if run.made_up else closed_corpora(corpora)
    for corpus in corpora:
        left_out = ["answer"] * bool(closed) + ["gold"] * (corpus in closed)
        table = pq.read_table(_folder(run) / f"{corpus}.parquet").drop_columns(left_out)
        (target / FOLDER).mkdir(exist_ok=True)
        pq.write_table(table, target / FOLDER / f"{corpus}.parquet")


def _folder(run: Finished) -> Path:
    return run.folder / "eval" / run.scored / FOLDER
