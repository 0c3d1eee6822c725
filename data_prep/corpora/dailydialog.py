"""Reader of DailyDialog's release: a folder a split, with a line a dialogue in its text and its emotion file.

    train/dialogues_train.txt          Hello , Ann . __eou__ Hi ! __eou__
    train/dialogues_emotion_train.txt  0 4

Names without the split (``dialogues_text.txt``, ``dialogues_emotion.txt``) are read as well. Two people take
turns and have no names. The files were not at hand when this was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from data_prep.corpora.dialogue import (
    MOST_BYTES,
    MOST_TURNS,
    DataError,
    Dialogue,
    Utterance,
    clean_text,
    text_lines,
)
from data_prep.corpora.found import SPLITS, Found, spelled
from rewards.labels import OTHERS

LAYOUT = "dailydialog/{train,validation,test}/dialogues_{,emotion_}<folder>.txt"
TERMS = "CC BY-NC-SA 4.0, http://yanran.li/dailydialog"
MAY_BE_PASSED_ON = True
FOLDERS = {"train": "train", "dev": "validation", "test": "test"}
SPEAKERS = ("Speaker A", "Speaker B")
#: By class id.
CLASSES = OTHERS["dailydialog"]
END = "__eou__"

_IDS = {str(i): label for i, label in enumerate(CLASSES)}

_RELEASE = "restore the file from the DailyDialog release"


def find(_: Path, root: Path) -> Found:
    """The two files of each of the three folders.

    Raises:
        DataError: a file is missing, or a folder is still packed.
    """
    files = {split: _files(root, FOLDERS[split]) for split in SPLITS}

    def read(splits: Sequence[str]) -> Iterator[Dialogue]:
        return chain.from_iterable(read_split(*files[split], split) for split in SPLITS if split in splits)

    return Found(lambda: [path for pair in files.values() for path in pair], read)


def _files(root: Path, name: str) -> tuple[Path, Path]:
    folder = spelled(root, name)
    if not folder.is_dir():
        packed = root / f"{name}.zip"
        remedy = f"unpack {packed.name} there" if packed.is_file() else "complete it, or leave it out"
        raise DataError(folder, None, "no such folder", remedy)
    return _one(folder, f"dialogues_{name}.txt", "dialogues_text.txt"), _one(
        folder, f"dialogues_emotion_{name}.txt", "dialogues_emotion.txt"
    )


def _one(folder: Path, *names: str) -> Path:
    found = [path for path in (spelled(folder, name) for name in names) if path.is_file()]
    if len(found) != 1:
        problem = f"neither {names[0]} nor {names[1]}" if not found else f"both {names[0]} and {names[1]}"
        raise DataError(folder, None, problem, "unpack the release again, or keep one of the two")
    return found[0]


def read_split(text: Path, emotions: Path, split: str) -> Iterator[Dialogue]:
    """Yield the dialogues of one folder, ids ``{split}_{line of the file, from 0}``, utterances from 0.

    Raises:
        DataError: anything in the files that cannot be used; names file, line and remedy.
    """
    count = 0
    nothing: tuple[int, str] = (0, "")
    pairs = zip_longest(
        text_lines(text, most=MOST_BYTES), text_lines(emotions, most=MOST_BYTES), fillvalue=nothing
    )
    for (line, said), (other, classes) in pairs:
        if not said.strip() and not classes.strip():
            continue
        if not said.strip() or not classes.strip():
            path, lacking = (text, emotions) if said.strip() else (emotions, text)
            raise DataError(path, line or other, f"{lacking.name} has nothing on this line", _RELEASE)
        count += 1
        turns = _turns(text, line, said, _labels(emotions, other, classes))
        yield Dialogue("dailydialog", split, f"{split}_{line - 1}", turns)
    if not count:
        raise DataError(text, None, "no dialogue in the file", _RELEASE)


def _labels(path: Path, line: int, classes: str) -> list[str]:
    labels = []
    for number in classes.split():
        if number not in _IDS:
            problem = f"{number[:40]!r} is no class id from 0 to {len(CLASSES) - 1}"
            raise DataError(path, line, problem, _RELEASE)
        labels.append(_IDS[number])
    return labels


def _turns(path: Path, line: int, said: str, labels: Sequence[str]) -> tuple[Utterance, ...]:
    texts = [clean_text(part, path, line) for part in said.split(END)]
    if texts[-1]:
        raise DataError(path, line, f"the last utterance has no {END}", _RELEASE)
    texts.pop()
    if len(texts) > MOST_TURNS:
        problem = f"{len(texts):,} utterances where a dialogue has at most {MOST_TURNS:,}"
        raise DataError(path, line, problem, _RELEASE)
    if len(texts) != len(labels):
        raise DataError(path, line, f"{len(texts)} utterances but {len(labels)} emotions", _RELEASE)
    if "" in texts:
        raise DataError(path, line, f"utterance {texts.index('') + 1} is empty", _RELEASE)
    return tuple(
        Utterance(str(i), SPEAKERS[i % 2], words, label)
        for i, (words, label) in enumerate(zip(texts, labels, strict=True))
    )
