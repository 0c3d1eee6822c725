"""Sample dialogues of the project's own, for a first run: `data_prep.sample_lines` in the corpora's files.

Nothing is taken from a corpus or a show; only the file layouts are theirs. Lines are drawn with
`random.Random` alone, so a seed gives the same files under every version of Python.

`python -m data_prep.sample_dialogues --out-dir DIR --train 2000 --dev 400 --test 1200 --seed 1`
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random

from data_prep import sample_lines
from data_prep.corpora.found import SPLITS
from data_prep.files import cache_dir, sha256, write_folder
from data_prep.sample_lines import ANSWERS, FEELINGS, LEAD_INS, NAMES, UNLABELLED_GOT, Line, LineWriter

#: Utterances of all corpora together.
DEFAULT_SIZES = {"train": 4200, "dev": 400, "test": 1200}
_FIRST = str.split("Ada Bela Cyd Dario Elif Femi Gil Hana Ivo Jun Kofi Lena Mira Nils Orla Paz")
_LAST = str.split("Abt Brook Castel Dorn Evans Fuchs")


_CODES = {
    "happy": "hap",
    "sad": "sad",
    "neutral": "neu",
    "angry": "ang",
    "excited": "exc",
    "frustrated": "fru",
}
_SENTIMENTS = {"neutral": "neutral", "joy": "positive", "surprise": "positive"}


def _spoken(text: str, lively: bool) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else "!" if lively else ".")


def dialogue(rng: Random, corpus: str, split: str) -> list[Line]:
    """A dialogue of three to five lines between two speakers; they are numbers."""
    write = LineWriter(rng, corpus, split)
    lively = [rng.random() < 0.5 for _ in range(2)]
    lines: list[Line] = []

    def say(text: str, feeling: str) -> None:
        speaker = len(lines) % 2
        lines.append(Line(speaker, _spoken(text, lively[speaker] and rng.random() < 0.7), feeling))

    def answer(thing: str, feeling: str) -> None:
        if rng.random() < 0.4:
            with suppress(LookupError):
                say(*write.reply(thing, feeling))

    while len(lines) < 3:
        (thing, pole), kind = write.thing(), rng.random()
        with suppress(LookupError):
            if kind < 0.34:
                say(write.neutral(thing, pole), "neutral")
            elif kind < 0.40:
                told = rng.choice((1, -1))
                say(write.question(thing), "neutral")
                feeling = FEELINGS["plain"][pole * told]
                say(rng.choice(ANSWERS[told]), feeling)
                answer(thing, feeling)
            else:
                text, feeling = write.event(thing, pole)
                say(text, feeling)
                answer(thing, feeling)
    return lines


def dialogues(seed: int, corpus: str, split: str, utterances: int) -> list[list[Line]]:
    """Dialogues of one corpus and split with at least so many utterances in all, none of them twice."""
    rng = Random(f"{seed}:{corpus}:{split}")
    found: dict[tuple[str, ...], list[Line]] = {}
    total = 0
    while total < utterances:
        lines = dialogue(rng, corpus, split)
        if (key := tuple(line.text for line in lines)) not in found:
            found[key] = lines
            total += len(lines)
    return list(found.values())


def unlabelled(seed: int, number: int) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Dialogues for a base model to read: (corpus, turns with ``speaker`` and ``text``), no label.

    They are of training wordings alone. Each has one to three exchanges: mostly an event and how somebody
    answers to the feeling in it, else opinions on things and neutral lines.
    """
    for corpus in NAMES:
        rng = Random(f"{seed}:{corpus}:unlabelled")
        write = LineWriter(rng, corpus, "train", UNLABELLED_GOT)
        for _ in range(number // len(NAMES)):
            names, exchanges = speakers(rng, corpus), rng.choice((1, 2, 3))
            texts: list[str] = []
            while len(texts) < 2 * exchanges:
                with suppress(LookupError):
                    texts += _exchange(write)
            yield (
                corpus,
                [
                    {"speaker": names[i % 2], "text": _spoken(text, rng.random() < 0.3)}
                    for i, text in enumerate(texts)
                ],
            )


def _exchange(write: LineWriter) -> tuple[str, str]:
    (thing, pole), (other, other_pole), kind = write.thing(), write.thing(), write.rng.random()
    if kind < 0.12:
        return write.opinion(thing, pole), write.opinion(other, other_pole)
    if kind < 0.23:
        return write.neutral(thing, pole), write.neutral(thing, pole)
    text, feeling = write.event(thing, pole)
    return text, _led_in(write.rng, write.reply(thing, feeling)[0])


def _led_in(rng: Random, reply: str) -> str:
    """A reply behind up to three of `LEAD_INS`: what it answers to has to be known at any of its words."""
    return " ".join([*(rng.choice(LEAD_INS) for _ in range(rng.choice((0, 1, 2, 3)))), reply])


def speakers(rng: Random, corpus: str) -> list[str]:
    """Names of two speakers as the corpus's reader gives them."""
    if corpus == "iemocap":
        names = ["Female speaker", "Male speaker"]
        rng.shuffle(names)
        return names
    names = rng.sample(_FIRST, 2)
    return [f"{name} {rng.choice(_LAST)}" for name in names] if corpus == "emorynlp" else names


def write_corpora(out_dir: str | Path, sizes: Mapping[str, int], seed: int) -> None:
    """Write the three corpora's raw files, as `data_prep.corpora` describes them.

    Args:
        out_dir: gets ``meld/``, ``emorynlp/``, ``iemocap/`` and ``iemocap_split.json``.
        sizes: utterances of each of `SPLITS`, a third (rounded up) for each corpus; a last dialogue may
            go beyond it.
        seed: of the dialogues.

    Raises:
        ValueError: a size is missing or below 1.
    """
    out_dir = Path(out_dir)
    if missing := [split for split in SPLITS if sizes.get(split, 0) < 1]:
        raise ValueError(f"no utterances asked for in {', '.join(missing)}; every split needs some")
    ids: dict[str, list[str]] = {}
    number = count()
    for split in SPLITS:
        share = -(-sizes[split] // len(NAMES))
        for corpus, write in (("meld", _write_meld), ("emorynlp", _write_emorynlp)):
            rng = Random(f"{seed}:{corpus}:{split}:names")
            write(out_dir / corpus, split, dialogues(seed, corpus, split, share), rng)
        rng = Random(f"{seed}:iemocap:{split}:names")
        found = dialogues(seed, "iemocap", split, share)
        ids[split] = [_write_iemocap(out_dir / "iemocap", next(number), lines, rng) for lines in found]
    (out_dir / "iemocap_split.json").write_text(json.dumps(ids, indent=1) + "\n", encoding="utf-8")


def sample_corpora(sizes: Mapping[str, int] | None = None, seed: int = 1) -> Path:
    """A folder with corpora of `write_corpora`, written once and then found in the cache.

    Args:
        sizes: utterances of each of `SPLITS`; None: `DEFAULT_SIZES`.
        seed: of the dialogues.

    Raises:
        ValueError: as `write_corpora`.
    """
    sizes = dict(DEFAULT_SIZES if sizes is None else sizes)
    # Another version of either file makes other dialogues.
    made_by = sha256(__file__)[:6] + sha256(sample_lines.__file__)[:6]
    name = "-".join(["samples", *(str(sizes.get(split)) for split in SPLITS), str(seed), made_by])
    folder = cache_dir() / name
    if not folder.is_dir():
        write_folder(folder, lambda part: write_corpora(part, sizes, seed))
    return folder


def _write_meld(folder: Path, split: str, found: Sequence[Sequence[Line]], rng: Random) -> None:
    header = (
        "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    )
    rows: list[list[object]] = []
    for i, lines in enumerate(found):
        names = speakers(rng, "meld")
        for j, line in enumerate(lines):
            label = NAMES["meld"][line.feeling]
            sentiment = _SENTIMENTS.get(label, "negative")
            times = [f"00:{i % 60:02}:{3 * j + k:02},000" for k in (0, 2)]
            rows.append([len(rows) + 1, line.text, names[line.speaker], label, sentiment, i, j, 1, 1, *times])
    _write_csv(folder / f"{split}_sent_emo.csv", header, rows)


def _write_emorynlp(folder: Path, split: str, found: Sequence[Sequence[Line]], rng: Random) -> None:
    header = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode,Start_Time,End_Time"
    rows = []
    for i, lines in enumerate(found):
        names = speakers(rng, "emorynlp")
        for j, line in enumerate(lines):
            label = NAMES["emorynlp"][line.feeling]
            times = [f"00:{i % 60:02}:{3 * j + k:02}.000" for k in (0, 2)]
            rows.append(
                [line.text, repr([names[line.speaker]]), label, i % 20 + 1, j + 1, 1, i // 20 + 1, *times]
            )
    _write_csv(folder / f"emorynlp_{split}_final.csv", header, rows)


def _write_csv(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)


def _write_iemocap(root: Path, number: int, lines: Sequence[Line], rng: Random) -> str:
    """Write one dialogue's transcript and evaluation; returns its id."""
    names = [name[0] for name in speakers(rng, "iemocap")]
    session = number % 5 + 1
    name = f"Ses{session:02}{names[0]}_impro{number // 5 + 1:02}"
    said, judged = [], ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for j, line in enumerate(lines):
        turn = f"{name}_{names[line.speaker]}{j:03}"
        start, end = f"{3 * j}.0000", f"{3 * j + 2}.0000"
        said.append(f"{turn} [{start}-{end}]: {line.text}")
        code = _CODES[NAMES["iemocap"][line.feeling]]
        judged += [f"[{start} - {end}]\t{turn}\t{code}\t[2.5000, 2.5000, 2.5000]", ""]
    for kind, text in (("transcriptions", said), ("EmoEvaluation", judged)):
        path = root / f"Session{session}" / "dialog" / kind / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return name


def main() -> int:
    """Command line of the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out-dir", required=True)
    parser.add_argument("--seed", type=int, default=1)
    for split, size in DEFAULT_SIZES.items():
        parser.add_argument(f"--{split}", type=int, default=size, help="utterances, of all corpora together")
    args = parser.parse_args()
    write_corpora(args.out_dir, {split: getattr(args, split) for split in SPLITS}, args.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
