"""The emotion labels of every corpus, each in the corpus's own order and spelling.

The order matters: it breaks ties between equally likely emotions (Eq. 11). Installed packages add corpora by
entry points of the group `self_emo.corpora`, whose modules name their labels as ``LABELS``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

#: The paper's three corpora, which are looked for where a run names none.
LABELS: dict[str, tuple[str, ...]] = {
    "meld": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
    "iemocap": ("happy", "sad", "neutral", "angry", "excited", "frustrated"),
    "emorynlp": ("Joyful", "Mad", "Neutral", "Peaceful", "Powerful", "Sad", "Scared"),
}


#: Corpora that are read only where a run asks for them by name.
OTHERS: dict[str, tuple[str, ...]] = {
    "dailydialog": ("no emotion", "anger", "disgust", "fear", "happiness", "sadness", "surprise"),
}

#: Where packages name corpora of their own.
GROUP = "self_emo.corpora"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@cache
def plugin_corpora() -> dict[str, ModuleType]:
    """The corpora of installed packages, by name: modules with ``LABELS``, ``LAYOUT`` and ``find``.

    Raises:
        ValueError: one of them cannot be used; the message names its package and what is wrong with it.
    """
    found: dict[str, ModuleType] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            module = entry.load()
            problem = _fault(entry.name, module, found)
        except Exception as error:  # whatever a package does when it is imported
            problem = f"{type(error).__name__}: {error}"
        if problem:
            package = entry.dist.name if entry.dist else "an unknown package"
            raise ValueError(
                f"corpus {entry.name!r} of the package {package} ({GROUP}, {entry.value}) cannot be used: "
                f"{problem}; mend the package or uninstall it"
            )
        found[entry.name] = module
    return found


def _fault(name: str, module: ModuleType, others: dict[str, ModuleType]) -> str | None:
    if not _NAME.fullmatch(name):
        return "its name is not of small letters, digits and underscores"
    if name in LABELS or name in OTHERS or name in others:
        return "there is a corpus of that name already"
    missing = [part for part in ("LABELS", "LAYOUT", "find") if not hasattr(module, part)]
    if missing:
        return f"it has no {' and no '.join(missing)}"
    labels = module.LABELS
    if isinstance(labels, str) or not all(isinstance(label, str) and label.strip() for label in labels):
        return "its LABELS are no list of texts"
    if len({label.casefold() for label in labels}) < max(2, len(labels)):
        return "its LABELS are fewer than two, or name one twice"
    return None


def known_corpora() -> dict[str, tuple[str, ...]]:
    """The labels of every corpus that can be read, by name; see `plugin_corpora` for errors."""
    return LABELS | OTHERS | {name: tuple(module.LABELS) for name, module in plugin_corpora().items()}


def corpus_labels(data_source: str) -> tuple[str, ...]:
    """Labels of one corpus.

    Args:
        data_source: ``meld``, ``iemocap``, ``emorynlp``, or another one of `known_corpora`.

    Raises:
        ValueError: the corpus is unknown, or no text.
    """
    if not isinstance(data_source, str):
        raise ValueError(f"a row's data_source must be the name of a corpus, got {data_source!r}")
    found = LABELS.get(data_source) or OTHERS.get(data_source) or known_corpora().get(data_source)
    if found is None:
        raise ValueError(f"unknown corpus {data_source!r}; known: {', '.join(known_corpora())}")
    return found


def heaviest(weights: dict[str, float], label_order: Sequence[str]) -> str | None:
    """The label with the largest weight, the first of ``label_order`` among equals; None if empty."""
    if len(weights) < 2:
        return next(iter(weights), None)
    return max(sorted(weights, key=list(label_order).index), key=weights.__getitem__)
