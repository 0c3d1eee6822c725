"""Who is asked: experts behind endpoints, the base model itself, or nobody (the offline stand-in)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.experts.client import Settings
from recipe.models import self_expert
from recipe.models.serve import ServeError
from recipe.run.process import StageError
from recipe.run.run import Run, say


@contextmanager
def asked(run: Run, work: Path) -> Iterator[Settings | None]:
    """How to ask the run's experts, for the length of the block; None where there are none.

    Args:
        run: the run.
        work: the step's folder; the server's log goes there (``expert=self``).

    Raises:
        StageError: the base model cannot be served.
    """
    if not self_expert.is_self(run.config):
        yield run.experts
        return
    say(f"{run.config.base.name} is its own expert: it is served, and asked before anything is trained")
    try:
        with self_expert.serving(run.config, work / "expert.log") as settings:
            yield settings
    except ServeError as error:
        raise StageError(f"{run.config.base.name} cannot be its own expert: {error}") from None
