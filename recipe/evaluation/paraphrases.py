"""How much scores depend on the words of the prompt: the same test rows, asked in other words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recipe.evaluation.measures import MEASURES


def spread(summaries: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean and range of every measure over wordings.

    Args:
        summaries: a result of `recipe.evaluation.measures.summarise` for each wording, at least one.

    Returns:
        corpus (and ``avg``) -> measure -> ``mean``, ``low``, ``high``, and the ``values`` in their order.
    """
    return {
        corpus: {m: _of([summary[corpus][m] for summary in summaries]) for m in MEASURES}
        for corpus in summaries[0]
    }


def _of(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": sum(values) / len(values),
        "low": min(values),
        "high": max(values),
        "values": list(values),
    }
