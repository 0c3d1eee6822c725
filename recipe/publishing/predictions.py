"""The checkpoint's prediction for every test row, so that others can compare row by row."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from recipe.evaluation.predictions import FOLDER
from recipe.publishing.finished import Finished
from recipe.publishing.licences import closed_corpora

#: What of a corpus that may not be passed on is left out: its labels, and text that may quote its lines.
_CLOSED = ("gold", "answer")


def predicted_corpora(run: Finished) -> list[str]:
    """Corpora whose predictions the run has kept; none where it was scored by an older version."""
    return sorted(path.stem for path in _folder(run).glob("*.parquet"))


def copy_predictions(run: Finished, target: Path) -> None:
    """Copy ``eval/<checkpoint>/predictions`` into a folder that is there."""
    corpora = predicted_corpora(run)
    closed = [] if run.made_up else closed_corpora(corpora)
    for corpus in corpora:
        table = pq.read_table(_folder(run) / f"{corpus}.parquet")
        (target / FOLDER).mkdir(exist_ok=True)
        pq.write_table(
            table.drop_columns(_CLOSED) if corpus in closed else table, target / FOLDER / f"{corpus}.parquet"
        )


def _folder(run: Finished) -> Path:
    return run.folder / "eval" / run.scored / FOLDER
