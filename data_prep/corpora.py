"""Finds the corpora below one folder and reads them all.

Layout: ``meld/{train,dev,test}_sent_emo.csv``, ``emorynlp/emorynlp_{train,dev,test}_final.csv`` (or
EmoryNLP's own ``emotion-detection-{trn,dev,tst}.json``), and ``iemocap/Session1..5`` with
``iemocap_split.json`` next to or inside ``iemocap``. Any of the three may be absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from data_prep import emorynlp, emorynlp_json, iemocap, meld
from data_prep.dialogue import DataError, Dialogue
from rewards.labels import LABELS

SPLITS = iemocap.SPLITS
_CSV_NAMES = {"meld": "{split}_sent_emo.csv", "emorynlp": "emorynlp_{split}_final.csv"}
_READERS = {
    ("meld", ".csv"): meld.read_split,
    ("emorynlp", ".csv"): emorynlp.read_split,
    ("emorynlp", ".json"): emorynlp_json.read_split,
}
_SPLIT_FILE = "iemocap_split.json"


@dataclass(frozen=True, slots=True)
class CorpusFiles:
    """Where a corpus lies: its folder, one file per split, or (IEMOCAP) the one file with the split."""

    root: Path
    split_files: dict[str, Path]
    split_file: Path | None = None

    def paths(self) -> list[Path]:
        """Every file that is read."""
        if self.split_file is None:
            return list(self.split_files.values())
        splits = iemocap.load_splits(self.split_file)
        found = iemocap.dialogue_files(self.root, splits, self.split_file)
        return [self.split_file, *(path for *_, transcript, notes in found for path in (transcript, notes))]


def find_corpora(raw_dir: str | Path, corpora: Sequence[str] | None = None) -> dict[str, CorpusFiles]:
    """The corpora that are there, in the order of ``LABELS``.

    Args:
        raw_dir: the folder of the layout above.
        corpora: look for these only, and require them; None or empty takes what is there.

    Raises:
        DataError: no such folder, no known corpus in it, one asked for is absent, or one lacks a file.
    """
    raw_dir = Path(raw_dir)
    if not raw_dir.is_dir():
        wanted = f"set RAW_DIR=... to the folder that holds {_looked_for(LABELS)}"
        raise DataError(raw_dir, None, "no such folder", wanted)
    wanted = tuple(corpora or LABELS)
    unknown = [name for name in wanted if name not in LABELS]
    if unknown:
        raise DataError(raw_dir, None, f"unknown corpus {unknown[0]!r}", f"choose among {', '.join(LABELS)}")
    present = {name for name in wanted if (raw_dir / name).is_dir()}
    absent = [name for name in LABELS if name in wanted and name not in present]
    if not present or (corpora and absent):
        looked_for = _looked_for(absent or LABELS)
        raise DataError(
            raw_dir,
            None,
            f"found no {looked_for}",
            "make download RAW_DIR=... fetches MELD and EmoryNLP, and says how to get IEMOCAP",
        )
    return {name: _corpus_files(raw_dir, name) for name in LABELS if name in present}


def read_corpora(
    raw_dir: str | Path, corpora: Sequence[str] | None = None, splits: Sequence[str] = SPLITS
) -> Iterator[Dialogue]:
    """Yield every dialogue, corpus by corpus and within one train, dev, test; one is held at a time.

    Args:
        raw_dir: see :func:`find_corpora`.
        corpora: see :func:`find_corpora`.
        splits: read these only.

    Raises:
        DataError: at the call if files are missing, on iteration if one cannot be used.
    """
    parts = []
    for name, files in find_corpora(raw_dir, corpora).items():
        if files.split_file is not None:
            ids = iemocap.load_splits(files.split_file)
            wanted = {split: ids[split] for split in SPLITS if split in splits}
            parts.append(iemocap.read_release(files.root, wanted, files.split_file))
        parts += [
            _READERS[name, path.suffix](path, split)
            for split, path in files.split_files.items()
            if split in splits
        ]
    return chain.from_iterable(parts)


def _looked_for(names: Iterable[str]) -> str:
    every = "{" + ",".join(SPLITS) + "}"
    folders = {name: f"{name}/{pattern.format(split=every)}" for name, pattern in _CSV_NAMES.items()}
    folders["emorynlp"] += " (or emotion-detection-{trn,dev,tst}.json)"
    folders["iemocap"] = f"iemocap/Session{{1..5}} with {_SPLIT_FILE}"
    return " or ".join(folders[name] for name in names)


def _corpus_files(raw_dir: Path, name: str) -> CorpusFiles:
    root = raw_dir / name
    if name in _CSV_NAMES:
        paths = {split: root / _CSV_NAMES[name].format(split=split) for split in SPLITS}
        own = {
            split: root / f"emotion-detection-{short}.json" for split, short in emorynlp_json.NAMES.items()
        }
        if name == "emorynlp" and any(path.is_file() for path in own.values()):
            if any(path.is_file() for path in paths.values()):
                raise DataError(
                    root,
                    None,
                    "both the CSV files and the JSON files of EmoryNLP, which hold different utterances",
                    "move one of the two away",
                )
            paths = own
        for path in paths.values():
            if not path.is_file():
                raise DataError(
                    path, None, "no such file", f"complete {name}, or leave it out of the corpora"
                )
        return CorpusFiles(root, paths)
    places = (raw_dir / _SPLIT_FILE, root / _SPLIT_FILE)
    for path in places:
        if path.is_file():
            return CorpusFiles(root, {}, path)
    raise DataError(
        root,
        None,
        "no split file for IEMOCAP",
        f"put the dialogue ids of train, dev and test into {places[0]} or {places[1]}, or leave iemocap out",
    )
