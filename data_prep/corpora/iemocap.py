"""Reader of the IEMOCAP release: ``Session{1..5}/dialog/{transcriptions,EmoEvaluation}/*.txt``.

The release is under a signed licence, so this reader was written from its published description. It looks
only at the files that the split names; stray files of an unpacked archive do not disturb it.

The usual split lies beside this module: Session 5 is the test split, twelve dialogues of the others are dev.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

from data_prep import strict_json
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

_log = logging.getLogger(__name__)

SPLIT_FILE = "iemocap_split.json"
LAYOUT = "iemocap/Session{1..5}"
_USUAL_SPLIT = Path(__file__).with_name(SPLIT_FILE)
TERMS = "given out under a signed licence at https://sail.usc.edu/iemocap, which lets nobody pass it on"
MAY_BE_PASSED_ON = False
ID_COLUMNS = ("dialogue", "utterance")
CODES = {
    "hap": "happy",
    "sad": "sad",
    "neu": "neutral",
    "ang": "angry",
    "exc": "excited",
    "fru": "frustrated",
}
#: Codes of lines that are context only: no agreement, another emotion, fear, surprise, disgust.
OTHER_CODES = ("xxx", "oth", "fea", "sur", "dis")
SPEAKERS = {"F": "Female speaker", "M": "Male speaker"}

_DIALOGUE_ID = re.compile(r"Ses(?P<session>\d\d)[FM]_\w{1,60}", re.ASCII)
_TURN_ID = re.compile(r"(?P<dialogue>Ses\d\d[FM]_\w+)_(?P<speaker>[FM])\d{1,9}[a-z]?", re.ASCII)
_TURN = re.compile(
    r"(?P<id>\S+)\s+\[\s*(?P<start>\d{1,9}(?:\.\d{1,9})?)\s*-\s*\d{1,9}(?:\.\d{1,9})?\s*\]\s*:(?P<text>.*)",
    re.ASCII | re.DOTALL,
)
_TWO_TURNS = re.compile(r"Ses\d\d[FM]_\w+\s+\[\s*\d", re.ASCII)
# Segments of the microphone of the one who is not speaking: Ses01F_impro01_MXX0 and the like.
_OTHER_MICROPHONE = re.compile(r"Ses\d\d[FM]_\w+_[FM]X+\w*(?![^\s:\[])", re.ASCII | re.IGNORECASE)
# "M: text" or "<turn id> text". A bracket with digits behind the id is a time stamp, and then a broken one.
_UNTIMED = re.compile(r"(?:[FM]\s*:|Ses\d\d[FM]_\w+\s*[:\s])\s*(?!\[\s*[\d.-])\S.*", re.ASCII | re.DOTALL)
_SUMMARY = re.compile(r"\[[^\]]*\]\s+(?P<id>\S+)\s+(?P<code>[A-Za-z]{3})(?:\s+\[[^\]]*\])?\s*", re.ASCII)
_LATE_SUMMARY = re.compile(r"\[[^\]]*\]\s+Ses\d\d[FM]_\w+\s", re.ASCII)
_EVALUATOR = re.compile(r"C-E\d+:\s*(?P<categories>[^(]*?)\s*(?:\(.*\)?)?", re.ASCII | re.DOTALL)
#: What evaluators call the six classes.
CATEGORIES = {
    "happiness": "happy",
    "sadness": "sad",
    "neutral": "neutral",
    "neutral state": "neutral",
    "anger": "angry",
    "excited": "excited",
    "frustration": "frustrated",
}
_RELEASE = "restore the file from the IEMOCAP release"


def find(raw_dir: Path, root: Path) -> Found:
    """The release, by the split file next to or inside the folder, else by the usual split.

    Raises:
        DataError: no session is there, or two split files are.
    """
    if not any(spelled(root, f"Session{number}").is_dir() for number in range(1, 6)):
        raise DataError(root, None, "no Session1 to Session5 in it", "unpack the whole release there")
    places = (spelled(raw_dir, SPLIT_FILE), spelled(root, SPLIT_FILE))
    own = [path for path in places if os.path.lexists(path)]
    if len(own) > 1:
        raise DataError(own[0], None, f"{own[1]} is there, too", "keep one of the two split files")
    split_file = own[0] if own else _USUAL_SPLIT

    def paths() -> list[Path]:
        found = dialogue_files(root, load_splits(split_file), split_file)
        return [split_file, *(path for *_, transcript, notes in found for path in (transcript, notes))]

    def read(splits: Sequence[str]) -> Iterator[Dialogue]:
        ids = load_splits(split_file)
        _tell_what_is_left_out(root, split_file, frozenset(chain.from_iterable(ids.values())))
        return read_release(root, {split: ids[split] for split in SPLITS if split in splits}, split_file)

    return Found(paths, read)


@cache
def _tell_what_is_left_out(root: Path, split_file: Path, named: frozenset[str]) -> None:
    there = {path.stem for path in root.glob("*/dialog/transcriptions/Ses*.txt")}
    if left_out := sorted(name for name in there - named if _DIALOGUE_ID.fullmatch(name)):
        told = "%s: %d of the release's dialogues are in none of its splits and not read; the first is %s"
        _log.warning(told, split_file, len(left_out), left_out[0])


def load_splits(path: str | Path) -> dict[str, list[str]]:
    """Read a split file, ``{"train": [dialogue id, ...], "dev": [...], "test": [...]}``.

    Raises:
        DataError: no JSON, another shape, no dialogue at all, or one that is named twice.
    """
    path = Path(path)
    text = "".join(line for _, line in text_lines(path, most=MOST_BYTES))
    shape = 'write {"train": [...], "dev": [...], "test": [...]} with dialogue ids such as "Ses01F_impro01"'
    try:
        splits = strict_json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(path, getattr(error, "lineno", None), f"not JSON ({error})", shape) from error
    if not isinstance(splits, dict) or set(splits) != set(SPLITS):
        raise DataError(path, None, f"not an object with exactly the keys {', '.join(SPLITS)}", shape)
    for split, ids in splits.items():
        if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            raise DataError(path, None, f"split {split!r} is no list of dialogue ids", shape)
    if not any(splits.values()):
        raise DataError(path, None, "no split names a dialogue", shape)
    _check_disjoint(path, splits)
    return {split: splits[split] for split in SPLITS}


def read_release(
    root: str | Path, splits: Mapping[str, Sequence[str]], split_file: str | Path | None = None
) -> Iterator[Dialogue]:
    """Yield the dialogues that ``splits`` names, split by split and in its order, one file pair at a time.

    Utterances stand in the order of their start times. Those with a code outside ``CODES``, or without an
    evaluation, have label None.

    Args:
        root: the folder with Session1 to Session5.
        splits: dialogue ids by split.
        split_file: where ``splits`` came from, for error messages.

    Raises:
        DataError: at the call if a file or session is not there; on iteration if a line cannot be used.
    """
    return (_read_dialogue(*entry) for entry in dialogue_files(root, splits, split_file))


def dialogue_files(
    root: str | Path, splits: Mapping[str, Sequence[str]], split_file: str | Path | None = None
) -> list[tuple[str, str, Path, Path]]:
    """(split, dialogue id, transcript, evaluation) of every dialogue; see :func:`read_release`."""
    root = Path(root)
    source = Path(split_file) if split_file is not None else root
    _check_disjoint(source, splits)
    return [
        (split, dialogue_id, *_dialogue_files(root, source, split, dialogue_id))
        for split, ids in splits.items()
        for dialogue_id in ids
    ]


def _check_disjoint(path: Path, splits: Mapping[str, Sequence[str]]) -> None:
    # A dialogue in two splits would leak test text into training.
    seen: dict[str, str] = {}
    for split, ids in splits.items():
        for dialogue_id in ids:
            if dialogue_id in seen:
                raise DataError(
                    path,
                    None,
                    f"dialogue {dialogue_id!r} stands in {seen[dialogue_id]} and again in {split}",
                    "name every dialogue once",
                )
            seen[dialogue_id] = split


def _dialogue_files(root: Path, source: Path, split: str, dialogue_id: str) -> tuple[Path, Path]:
    remedy = "correct the id in the split file, or complete the IEMOCAP release"
    match = _DIALOGUE_ID.fullmatch(dialogue_id)
    if match is None:
        raise DataError(source, None, f"split {split!r}: {dialogue_id[:60]!r} is no dialogue id", remedy)
    session = spelled(root, f"Session{int(match['session'])}")
    if not session.is_dir():
        raise DataError(
            session,
            None,
            f"no such session, but split {split!r} names {dialogue_id!r}",
            "unpack the whole release",
        )
    transcript = session / "dialog" / "transcriptions" / f"{dialogue_id}.txt"
    evaluation = session / "dialog" / "EmoEvaluation" / f"{dialogue_id}.txt"
    if not transcript.is_file():
        raise DataError(
            source,
            None,
            f"split {split!r} names dialogue {dialogue_id!r}, but there is no {transcript}",
            remedy,
        )
    if not evaluation.is_file():
        raise DataError(evaluation, None, f"no evaluation file for dialogue {dialogue_id!r}", _RELEASE)
    return transcript, evaluation


def _read_dialogue(split: str, dialogue_id: str, transcript: Path, evaluation: Path) -> Dialogue:
    codes, votes = _read_codes(evaluation, dialogue_id), _read_votes(evaluation)
    turns = _read_turns(transcript, dialogue_id)
    for turn_id, (line, code) in codes.items():
        if code in CODES and turn_id not in turns:
            raise DataError(
                evaluation,
                line,
                f"{turn_id} has emotion {code!r} but no timed line in {transcript}",
                _RELEASE,
            )
    # Stable: turns that begin at the same time keep the file's order.
    ordered = sorted(turns.items(), key=lambda turn: turn[1][0])
    return Dialogue(
        corpus="iemocap",
        split=split,
        dialogue_id=dialogue_id,
        utterances=tuple(
            Utterance(
                turn_id,
                speaker,
                text,
                CODES.get(codes[turn_id][1]) if turn_id in codes else None,
                votes.get(turn_id),
            )
            for turn_id, (_, speaker, text) in ordered
        ),
    )


def _read_turns(path: Path, dialogue_id: str) -> dict[str, tuple[float, str, str]]:
    """Turn id -> (start time, speaker, text) of one transcript."""
    turns: dict[str, tuple[float, str, str]] = {}
    for number, raw in text_lines(path, fallback="latin-1", most=MOST_BYTES):
        line = raw.strip()
        if not line or _OTHER_MICROPHONE.match(line):
            continue
        match = _TURN.fullmatch(line)
        if match is None:
            if _UNTIMED.fullmatch(line):
                continue
            raise DataError(path, number, f"unreadable line {line[:60]!r}", _RELEASE)
        if _TWO_TURNS.search(match["text"]):  # a line end was lost, or is of another kind
            raise DataError(path, number, f"more than one utterance in the line {line[:60]!r}", _RELEASE)
        turn_id = match["id"]
        if turn_id in turns:
            raise DataError(path, number, f"duplicate utterance id {turn_id}", "remove one of the two lines")
        speaker = _speaker(path, number, turn_id, dialogue_id)
        text = clean_text(match["text"], path, number)
        if not text:
            raise DataError(
                path, number, f"empty utterance {turn_id}", "fill in the text, or remove the line"
            )
        turns[turn_id] = (float(match["start"]), speaker, text)
        if len(turns) > MOST_TURNS:
            raise DataError(path, number, f"a dialogue of more than {MOST_TURNS:,} utterances", _RELEASE)
    if not turns:
        raise DataError(path, None, "no timed utterance in the file", _RELEASE)
    return turns


def _read_codes(path: Path, dialogue_id: str) -> dict[str, tuple[int, str]]:
    """Turn id -> (line, emotion code) from the summary lines; the evaluators' own lines are passed over."""
    codes: dict[str, tuple[int, str]] = {}
    for number, raw in text_lines(path, fallback="latin-1", most=MOST_BYTES):
        # Only summaries begin with a bracket; the heading begins with "%", evaluators' lines with a letter.
        if not raw.lstrip().startswith("["):
            if _LATE_SUMMARY.search(raw):  # a line end was lost, or is of another kind
                raise DataError(path, number, f"a summary within the line {raw.strip()[:60]!r}", _RELEASE)
            continue
        match = _SUMMARY.fullmatch(raw.strip())
        if match is None:
            raise DataError(path, number, f"unreadable summary line {raw.strip()[:60]!r}", _RELEASE)
        turn_id = match["id"]
        if _OTHER_MICROPHONE.fullmatch(turn_id):
            continue
        _speaker(path, number, turn_id, dialogue_id)
        if turn_id in codes:
            raise DataError(
                path, number, f"duplicate utterance id {turn_id}", "remove one of the two summaries"
            )
        code = match["code"].lower()
        if code not in CODES and code not in OTHER_CODES:
            problem = f"unknown emotion {code!r}; expected one of {', '.join((*CODES, *OTHER_CODES))}"
            raise DataError(path, number, problem, "correct the label, or restore the file from the release")
        codes[turn_id] = (number, code)
    if not codes:
        raise DataError(path, None, "no summary line in the file", _RELEASE)
    return codes


def _read_votes(path: Path) -> dict[str, dict[str, int]]:
    """Turn id -> label -> evaluators who named it, from their lines (``C-E1:\tNeutral; Anger;\t()``).

    They stand below the summary of their turn. Categories outside ``CODES`` count for nobody; the actors'
    own evaluations (C-F1, C-M1) are none of an annotator.
    """
    votes: dict[str, dict[str, int]] = {}
    turn_id = None
    for _, raw in text_lines(path, fallback="latin-1", most=MOST_BYTES):
        if found := _SUMMARY.fullmatch(raw.strip()):
            turn_id = found["id"]
        elif turn_id and (line := _EVALUATOR.fullmatch(raw.strip())):
            for name in {part.strip().casefold() for part in line["categories"].split(";")}:
                if label := CATEGORIES.get(name):
                    mine = votes.setdefault(turn_id, {})
                    mine[label] = mine.get(label, 0) + 1
    return votes


def _speaker(path: Path, number: int, turn_id: str, dialogue_id: str) -> str:
    match = _TURN_ID.fullmatch(turn_id)
    if match is None or match["dialogue"] != dialogue_id:
        problem = f"{turn_id[:60]!r} is no utterance id of dialogue {dialogue_id!r}"
        raise DataError(path, number, problem, _RELEASE)
    return SPEAKERS[match["speaker"]]
