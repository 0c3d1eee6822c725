"""Test text that stands in training text: exact and near duplicates between every two splits.

MELD and EmoryNLP come from the same show, so one model that trains on all corpora has read part of
the test splits. `python -m data_prep.leakage --raw-dir RAW_DIR` (`make leakage`) prints the table.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from data_prep.corpora import read_corpora
from data_prep.corpora.dialogue import DataError, Dialogue
from data_prep.files import write_json

if TYPE_CHECKING:  # it takes a while to import
    from datasketch import MinHash

#: Shorter utterances ("Okay.", "I don't know.") are the same everywhere and leak nothing.
MIN_CHARACTERS = 31
#: Share of common word pairs from which two texts count as nearly the same, and hashes to estimate it.
NEAR, PERMUTATIONS = 0.8, 128


def normalised(text: str) -> str:
    """Lower case, words only: what is left when typography is not counted."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


@dataclass(frozen=True)
class Overlap:
    """How much of one test split stands in one training split.

    Attributes:
        test, train: the corpora.
        unit: ``utterance`` or ``dialogue``.
        total: test texts that are long enough to tell.
        exact: those that stand in train, after `normalised`.
        near: those with a near duplicate in train (exact ones included).
        ids: of the leaking ones, ``corpus:dialogue[:utterance]``.
    """

    test: str
    train: str
    unit: str
    total: int
    exact: int
    near: int
    ids: tuple[str, ...]


def overlaps(dialogues: Iterable[Dialogue], near: float = NEAR) -> list[Overlap]:
    """Compare every test split with every training split.

    Args:
        dialogues: of all corpora and splits.
        near: Jaccard similarity of word pairs from which two texts are near duplicates.
    """
    texts: dict[tuple[str, str, str], dict[str, str]] = {}
    for dialogue in dialogues:
        name = f"{dialogue.corpus}:{dialogue.dialogue_id}"
        whole = " ".join(u.text for u in dialogue.utterances)
        texts.setdefault((dialogue.corpus, dialogue.split, "dialogue"), {})[name] = whole
        part = texts.setdefault((dialogue.corpus, dialogue.split, "utterance"), {})
        for utterance in dialogue.utterances:
            if len(utterance.text) >= MIN_CHARACTERS:
                part[f"{name}:{utterance.utterance_id}"] = utterance.text
    corpora = sorted({corpus for corpus, _, _ in texts})
    found = []
    for unit in ("utterance", "dialogue"):
        for train in corpora:
            against = _Index(texts.get((train, "train", unit), {}).values(), near)
            for test in corpora:
                part = texts.get((test, "test", unit), {})
                exact = {name for name, text in part.items() if against.holds(text)}
                alike = {name for name, text in part.items() if name in exact or against.nearly_holds(text)}
                ids = tuple(sorted(alike))
                found.append(Overlap(test, train, unit, len(part), len(exact), len(alike), ids))
    return found


def leaking_dialogues(dialogues: Iterable[Dialogue], near: float = NEAR) -> set[tuple[str, str]]:
    """Training dialogues to drop: those that hold an utterance of any test split, exactly or nearly.

    Args:
        dialogues: of all corpora and splits.
        near: as in `overlaps`.

    Returns:
        (corpus, dialogue id) of each.
    """
    test: list[str] = []
    train: list[Dialogue] = []
    for dialogue in dialogues:
        if dialogue.split == "test":
            test += [u.text for u in dialogue.utterances if len(u.text) >= MIN_CHARACTERS]
        elif dialogue.split == "train":
            train.append(dialogue)
    index = _Index(test, near)

    def leaks(text: str) -> bool:
        return len(text) >= MIN_CHARACTERS and (index.holds(text) or index.nearly_holds(text))

    return {(d.corpus, d.dialogue_id) for d in train if any(leaks(u.text) for u in d.utterances)}


class _Index:
    """Training texts that can be asked for equal and for similar ones."""

    def __init__(self, texts: Iterable[str], near: float):
        from datasketch import MinHashLSH

        texts = list(texts)
        self.exact = {normalised(text) for text in texts}
        self.near = near
        self.pairs: dict[str, frozenset] = {}
        self.index = MinHashLSH(threshold=near, num_perm=PERMUTATIONS)
        for text in tqdm(sorted(self.exact), desc="index", leave=False, disable=not sys.stderr.isatty()):
            if pairs := _pairs(text):
                self.pairs[text] = pairs
                self.index.insert(text, _minhash(pairs))

    def holds(self, text: str) -> bool:
        return normalised(text) in self.exact

    def nearly_holds(self, text: str) -> bool:
        """Candidates come from MinHash, the decision from the pairs themselves."""
        if not (pairs := _pairs(normalised(text))):
            return False
        return any(
            len(pairs & self.pairs[other]) >= self.near * len(pairs | self.pairs[other])
            for other in self.index.query(_minhash(pairs))
        )


def _pairs(text: str) -> frozenset[tuple[str, str]]:
    words = text.split()
    return frozenset(zip(words, words[1:], strict=False))


@functools.cache
def _empty_minhash() -> MinHash:
    # Made once: drawing the permutations takes longer than hashing a text with them.
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, seed=1)


def _minhash(pairs: frozenset[tuple[str, str]]) -> MinHash:
    hashed = _empty_minhash().copy()
    hashed.update_batch([" ".join(pair).encode() for pair in pairs])
    return hashed


def write_overlaps(found: Sequence[Overlap], path: str | Path) -> None:
    """Write the overlaps as JSON, one object each."""
    write_json(path, [asdict(o) for o in found])


def render(found: Sequence[Overlap]) -> str:
    """The table for a terminal."""
    lines = [f"{'test split':<12}{'in train of':<12}{'unit':<11}{'of':>7}{'exact':>8}{'near':>8}{'share':>8}"]
    for o in found:
        share = o.near / o.total if o.total else 0.0
        lines.append(
            f"{o.test:<12}{o.train:<12}{o.unit:<11}{o.total:>7,}{o.exact:>8,}{o.near:>8,}{share:>8.1%}"
        )
    return "\n".join(lines)


def main() -> int:
    """Command line of `make leakage`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw-dir", required=True, help="folder with meld/, emorynlp/ or iemocap/")
    parser.add_argument("--corpora", nargs="*", help="default: all that the folder holds")
    args = parser.parse_args()
    try:
        print(render(overlaps(read_corpora(args.raw_dir, args.corpora))))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
