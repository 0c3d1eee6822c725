"""`fake_run`'s finished run, with the clusters of its personas."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipe.pages import clusters
from tests.unit.fake_run import make_run, without_a_model


def make_clustered_run(folder: Path) -> Path:
    """Write it at ``folder``."""
    make_run(folder)
    with pytest.MonkeyPatch.context() as patch:
        without_a_model(patch)
        clusters.write(folder / "data", folder, folder, None)
    return folder
