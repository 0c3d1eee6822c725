"""Reader of EmoryNLP's own release, ``emotion-detection-{trn,dev,tst}.json``.

A file is ``{"season_id", "episodes": [{"episode_id", "scenes": [{"scene_id", "utterances": [...]}]}]}``, and
an utterance ``{"utterance_id": "s01_e02_c01_u002", "speakers": [names], "transcript", "tokens", "emotion"}``
(https://github.com/emorynlp/emotion-detection and its script in emorynlp/character-mining). It holds more
utterances than the CSV files of the same name. The files were not at hand when this was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep import strict_json
from data_prep.corpora.dialogue import (
    DataError,
    Dialogue,
    Row,
    Utterance,
    clean_name,
    clean_text,
    corpus_label,
    text_lines,
)

#: Names of the splits in the file names.
NAMES = {"train": "trn", "dev": "dev", "test": "tst"}

_MOST_AT_ONCE = 50
_SCENE_ID = re.compile(r"s(\d{1,9})_e(\d{1,9})_c(\d{1,9})", re.ASCII)
_UTTERANCE_ID = re.compile(r"(s\d+_e\d+_c\d+)_u(\d{1,9})", re.ASCII)
_RELEASE = "restore the file from the release"


def read_split(path: str | Path, split: str) -> Iterator[Dialogue]:
    """Yield the scenes of one file, ids ``{split}_{season}_{episode}_{scene}``, by utterance id.

    Ids are those that :mod:`data_prep.corpora.emorynlp` gives to the same scenes and utterances.

    Raises:
        DataError: anything in the file that cannot be used; names file, line and remedy.
    """
    path = Path(path)
    text = "".join(line for _, line in text_lines(path))
    try:
        document = strict_json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            path, getattr(error, "lineno", None), f"not JSON ({error})", "take the file of the release"
        ) from error
    lines, seen = _Lines(text), set()
    for episode in _items(document, "episodes", Row(path, 1, {})):
        for scene in _items(episode, "scenes", Row(path, lines.now, {})):
            place = Row(path, lines.of(_text(scene, "scene_id", Row(path, lines.now, {}))), {})
            match = _SCENE_ID.fullmatch(scene["scene_id"])
            if match is None or match[0] in seen:
                problem = "is no scene id" if match is None else "stands in the file twice"
                raise place.error(f"scene_id {scene['scene_id']!r} {problem}", _RELEASE)
            seen.add(match[0])
            turns = dict(_turn(item, match[0], path, lines) for item in _turns(scene, place))
            yield Dialogue(
                corpus="emorynlp",
                split=split,
                dialogue_id="_".join((split, *(str(int(number)) for number in match.groups()))),
                utterances=tuple(turns[number] for number in sorted(turns)),
            )
    if not seen:
        raise DataError(path, None, "no scene in the file", _RELEASE)


def _turns(scene: dict[str, Any], place: Row) -> list[Any]:
    turns = _items(scene, "utterances", place)
    ids = [turn.get("utterance_id") if isinstance(turn, dict) else None for turn in turns]
    doubled = next((name for i, name in enumerate(ids) if name in ids[:i]), None)
    if doubled is not None:
        raise place.error(
            f"duplicate utterance_id {doubled!r} in {scene['scene_id']}", "remove one of the two"
        )
    return turns


def _turn(item: Any, scene: str, path: Path, lines: _Lines) -> tuple[int, Utterance]:
    name = _text(item, "utterance_id", Row(path, lines.now, {}))
    cells = {key: _text(item, key, Row(path, lines.of(name), {})) for key in ("transcript", "emotion")}
    row = Row(path, lines.now, cells)
    match = _UTTERANCE_ID.fullmatch(name)
    if match is None or match[1] != scene:
        raise row.error(f"{name!r} is no utterance id of scene {scene!r}", _RELEASE)
    speakers = item.get("speakers")
    if not isinstance(speakers, list) or not all(isinstance(one, str) for one in speakers):
        raise row.error(f"speakers of {name} is no list of names", _RELEASE)
    speakers = [clean_name(one, path, row.line) for one in speakers]
    if not speakers or not all(speakers):
        raise row.error(f"{name} has no speaker", "fill in the name, or remove the utterance")
    words = clean_text(cells["transcript"], path, row.line)
    if not words:
        raise row.error(f"empty utterance {name}", "fill in the text, or remove the utterance")
    label = corpus_label(row, "emotion", "emorynlp")
    number = int(match[2])
    return number, Utterance(str(number), joined(speakers, row), words, label)


def joined(names: list[str], row: Row) -> str:
    """Those who say a line together, as one speaker.

    Raises:
        DataError: there are more than ever speak at once.
    """
    if len(names) > _MOST_AT_ONCE:
        raise row.error(f"{len(names):,} speakers of one utterance", _RELEASE)
    return " and ".join(dict.fromkeys(names))


def _items(parent: Any, key: str, place: Row) -> list[Any]:
    found = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(found, list) or not found:
        raise place.error(f"{key!r} is no list with something in it", _RELEASE)
    return found


def _text(parent: Any, key: str, place: Row) -> str:
    found = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(found, str):
        raise place.error(f"{key!r} is missing or no text", _RELEASE)
    return found


class _Lines:
    """The lines on which ids stand in the file, asked for in its order."""

    def __init__(self, text: str):
        self.text, self.place, self.now = text, 0, 1

    def of(self, name: str) -> int:
        """The line of the next ``name``; the line of the one before where it is written in another way."""
        place = self.text.find(json.dumps(name), self.place)
        if place >= 0:
            self.now += self.text.count("\n", self.place, place)
            self.place = place
        return self.now
