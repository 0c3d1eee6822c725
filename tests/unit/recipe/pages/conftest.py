"""A run and its page, and pictures that are not drawn twice."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import pytest

from recipe.pages import figures
from recipe.pages.report import write_report
from tests.unit.clustered_run import make_clustered_run


def _once(draw: Callable) -> Callable:
    known: dict[bytes, figures.Figure | None] = {}

    @wraps(draw)
    def drawn(*args, **kwargs):
        key = pickle.dumps((args, kwargs))
        if key not in known:
            known[key] = draw(*args, **kwargs)
        return known[key]

    return drawn


@pytest.fixture(scope="session", autouse=True)
def no_picture_is_drawn_twice():
    """Copies of one run have mostly the same pictures, and drawing them takes most of a page's time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("line_chart", "reliability_chart", "confusion_chart", "drift_chart", "scatter"):
            patch.setattr(figures, name, _once(getattr(figures, name)))
        yield


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A finished run with clusters, for reading alone; whoever changes one takes a copy."""
    return make_clustered_run(tmp_path_factory.mktemp("runs") / "fake")


@pytest.fixture(scope="session")
def page(run) -> str:
    """Its page."""
    return write_report(run).read_text(encoding="utf-8")
