"""Agreement of two raters beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Agreement of two raters beyond chance (Cohen 1960); nan if both say one thing throughout.

    Args:
        first, second: their labels for the same things.

    Raises:
        ValueError: there is nothing to compare, or not the same number of labels.
    """
    n = len(first)
    if not n or n != len(second):
        raise ValueError(f"kappa wants two equally long lists, got {n} and {len(second)}")
    agreed = sum(x == y for x, y in zip(first, second, strict=True)) / n
    counts = Counter(first), Counter(second)
    chance = sum(counts[0][v] * counts[1][v] for v in counts[0]) / n**2
    return (agreed - chance) / (1 - chance) if chance < 1 else float("nan")
