"""A corpus that the recipe does not know: its module, as somebody would write it, and its files."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
"""A toy corpus: one line an utterance, `speaker|label|text`, one dialogue a file."""

from data_prep.corpora.dialogue import Dialogue, Utterance
from data_prep.corpora.found import SPLITS, one_file_a_split

LABELS = ("calm", "joy", "grumpy")
LAYOUT = "toy/{train,dev,test}.txt"


def find(_, root):
    return one_file_a_split({split: root / f"{split}.txt" for split in SPLITS}, read_split)


def read_split(path, split):
    lines = (line.split("|") for line in path.read_text().splitlines())
    turns = tuple(Utterance(str(i), who, text, label) for i, (who, label, text) in enumerate(lines))
    yield Dialogue("toy", split, f"{split}_0", turns)
'''


def write_toy(folder: Path) -> None:
    """Two lines in every split."""
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (folder / f"{split}.txt").write_text("Ann|joy|I won!\nBob|grumpy|And I lost.\n")
