"""The emotion labels of the three corpora, each in the corpus's own order and spelling.

The order matters: it breaks ties between equally likely emotions (Eq. 11).
"""

from __future__ import annotations

from collections.abc import Sequence

LABELS: dict[str, tuple[str, ...]] = {
    "meld": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
    "iemocap": ("happy", "sad", "neutral", "angry", "excited", "frustrated"),
    "emorynlp": ("Joyful", "Mad", "Neutral", "Peaceful", "Powerful", "Sad", "Scared"),
}


def corpus_labels(data_source: str) -> tuple[str, ...]:
    """Labels of one corpus.

    Args:
        data_source: ``meld``, ``iemocap`` or ``emorynlp``.

    Raises:
        ValueError: the corpus is unknown.
    """
    try:
        return LABELS[data_source]
    except KeyError:
        raise ValueError(f"unknown corpus {data_source!r}; known: {', '.join(LABELS)}") from None


def heaviest(weights: dict[str, float], label_order: Sequence[str]) -> str | None:
    """The label with the largest weight, the first of ``label_order`` among equals; None if empty."""
    if len(weights) < 2:
        return next(iter(weights), None)
    return max(sorted(weights, key=list(label_order).index), key=weights.__getitem__)
