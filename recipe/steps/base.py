"""The base model: every training of Algorithm 1 that says "base" starts from it (lines 3 and 18).

Reads: ``base.path``, and for a model made on the spot the run's training prompts. Leaves:
``base/base.json`` with the folder or hub id, and ``base/model`` where the model was made here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from data_prep.experts.offline import respond_to
from data_prep.files import write_json
from data_prep.rows import read_rows
from recipe.models import named, tiny
from recipe.run.run import Run


def make(run: Run, work: Path) -> None:
    """Find the base model, or make it.

    Raises:
        ModelError: MODEL names nothing that can be loaded.
    """
    if run.config.evaluate.of:
        shutil.copy(Path(run.config.evaluate.of) / "base/base.json", work)
        return
    path = named.resolve(run.config.base.path)
    if path == "builtin:tiny":
        rows = read_rows(run.folder / "data/train.parquet")
        texts = [message["content"] for row in rows for message in row["prompt"]]
        texts += [respond_to(row) for row in rows]
        tiny.make_tiny(texts, work / "model", run.config.run.seed)
        path = str(run.folder / "base/model")
    write_json(work / "base.json", {"path": path})
