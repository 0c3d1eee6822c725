"""What all tests share: the CPU platform, one thread, this checkout and a Python that imports it."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["VERL_PLATFORM"] = "cpu"  # before anything imports verl, which reads it then
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Models and matrices here are so small that a second thread only waits, with all of its core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def subprocess_env():
    """An environment for a Python that imports this very checkout, with changes (None removes)."""

    def make(**changes: str | None) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        changed = os.environ | {"PYTHONPATH": path} | changes
        return {key: value for key, value in changed.items() if value is not None}

    return make
