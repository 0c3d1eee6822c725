"""Sample dialogues of the project's own: feelings that follow from what happened, to whom, and how.

An event line says that somebody the speaker cares for got or did not get a thing (a job, a fine). Whether
that is good is the product of two signs: what, and got or not. How it came about (by itself, soon, because
of you, in secret, ...) and the sign together give the feeling (`FEELINGS`), so that no single word decides:
"I got the job" is joy, "I never got the job" and "I got the fine" are sadness, "because of you, I got the
fine" is anger. The same words stand in neutral lines: in questions, in guesses, in news about strangers. A
bare "Yes, since today." means what the question before it makes of it. And feelings cause replies: whoever
answers speaks to the feeling, which is what a small language model can learn from dialogues without labels.

Nothing is taken from a corpus or a show; only the file layouts are theirs. Lines are drawn with
`random.Random` alone, so a seed gives the same files under every version of Python. Who-what-and-how of a
line decides its split (`split_of`), so no wording of a test line stands in train or dev, in any corpus.

`python -m data_prep.sample_dialogues --out-dir DIR --train 2000 --dev 400 --test 1200 --seed 1`
"""

from __future__ import annotations

import argparse
import csv
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

from data_prep.corpora.found import SPLITS
from data_prep.files import cache_dir, sha256, write_folder

#: Utterances of all corpora together.
DEFAULT_SIZES = {"train": 2100, "dev": 400, "test": 1200}
#: Percentages of all cores (who, what, how) that only train and dev may use; the others are test's.
_TRAIN_SHARE, _DEV_SHARE = 60, 12


def _words(text: str) -> list[str]:
    return text.split()


GOOD = _words("job prize house contract medal loan visa raise grant garden award title boat farm")
BAD = _words("fine fever debt blame ban penalty rash flu bill warning curse burden injury tax")
#: Subject and object forms, by whether the speaker cares (1) or does not (0).
PEOPLE = {
    1: (("I", "me"), ("we", "us"), ("my sister", "my sister"), ("my friend", "my friend"),
        ("our team", "our team"), ("I", "me")),
    0: (("a stranger", "a stranger"), ("some clerk", "some clerk"), ("a man in town", "a man in town")),
}  # fmt: skip
#: Share of events in which the thing is got: in the corpora, and in the unlabelled dialogues. With a half no
#: word would tell anything, and a small model does not find the product of two signs in a minute.
GOT, UNLABELLED_GOT = 0.7, 0.75
#: What happened, by sign and time: {x} has, {o} is given, {t} is the thing.
CLAUSES = {
    (1, "past"): ("{x} got the {t}", "{x} kept the {t}", "they gave the {t} to {o}", "the {t} went to {o}"),
    (-1, "past"): ("{x} never got the {t}", "{x} did not keep the {t}", "they took the {t} from {o}",
                   "the {t} did not go to {o}"),
    (1, "soon"): ("{x} will get the {t}", "{x} will keep the {t}", "they will give the {t} to {o}",
                  "the {t} will go to {o}"),
    (-1, "soon"): ("{x} will never get the {t}", "{x} will not keep the {t}",
                   "they will take the {t} from {o}", "the {t} will not go to {o}"),
}  # fmt: skip
#: How it came about: the tense, and what is said around the clause.
MANNERS = {
    "plain": ("past", ("{c}", "{c} today", "this morning {c}", "well, {c}")),
    "soon": ("soon", ("tomorrow {c}", "{c} on Monday", "next week {c}", "soon {c}")),
    "you": ("past", ("because of you, {c}", "thanks to you, {c}", "you saw to it that {c}")),
    "again": ("past", ("once more {c}", "{c} again", "as ever, {c}")),
    "self": ("past", ("I saw to it that {c}", "through my work {c}", "because of me, {c}")),
    "secret": ("past", ("in secret {c}", "behind our backs {c}", "on the quiet {c}")),
}
#: The feeling of an event, by manner and whether it is good for the speaker.
FEELINGS = {
    "plain": {1: "joy", -1: "sadness"},
    "soon": {1: "excitement", -1: "fear"},
    "you": {1: "joy", -1: "anger"},
    "again": {1: "calm", -1: "frustration"},
    "self": {1: "power", -1: "sadness"},
    "secret": {1: "surprise", -1: "disgust"},
}
#: What each corpus calls the feelings that its dialogues hold.
NAMES = {
    "meld": {"neutral": "neutral", "joy": "joy", "sadness": "sadness", "fear": "fear", "anger": "anger",
             "surprise": "surprise", "disgust": "disgust", "excitement": "joy"},
    "iemocap": {"neutral": "neutral", "joy": "happy", "sadness": "sad", "anger": "angry",
                "excitement": "excited", "frustration": "frustrated", "fear": "frustrated",
                "calm": "neutral"},
    "emorynlp": {"neutral": "Neutral", "joy": "Joyful", "sadness": "Sad", "fear": "Scared", "anger": "Mad",
                 "calm": "Peaceful", "power": "Powerful", "excitement": "Joyful", "frustration": "Mad"},
}  # fmt: skip
#: Manners that occur in a corpus, drawn with equal chances.
_MANNERS_OF = {
    "meld": ("plain", "soon", "you", "secret"),
    "iemocap": ("plain", "soon", "you", "again"),
    "emorynlp": ("plain", "soon", "you", "again", "self"),
}
#: What is said to somebody with a feeling: the answerer's own feeling, and lines about the thing.
REPLIES = {
    "joy": ("joy", ("I am so glad about the {t}", "let us drink to the news of the {t}")),
    "sadness": ("sadness", ("I am sorry about the {t}", "I could weep over the {t} with you")),
    "fear": ("fear", ("I tremble when I think of the {t}", "I am frightened, too, of the {t}")),
    "anger": ("sadness", ("forgive me for the {t}", "I regret what I did about the {t}")),
    "excitement": ("excitement", ("I can hardly wait for the {t}", "I count the hours to the {t}")),
    "frustration": ("frustration", ("I am sick of this {t}, too", "always this trouble with the {t}")),
    "surprise": ("surprise", ("I had no idea of the {t}", "who would have guessed the {t}")),
    "disgust": ("anger", ("they should be ashamed of the {t}", "I will report them for the {t}")),
    "calm": ("calm", ("then I can rest about the {t}", "all is well with the {t}")),
    "power": ("joy", ("I am proud of you for the {t}", "I cheer for you and the {t}")),
}
#: Neutral lines; those with {c} hold an event that is only asked about or guessed at.
_QUESTIONS = ("is it true that {c}", "do you know whether {c}", "who says that {c}")
_GUESSES = ("nobody knows yet whether {c}", "I will ask whether {c}", "they vote on whether {c}")
_PLAIN = (
    "the form for the {t} lies on the table",
    "we talk about the {t} at {h}",
    "the office for the {t} opens at {h}",
    "read me the page about the {t}",
    "the letter about the {t} has two pages",
    "I wrote the {t} into the list",
)
_OPINIONS = {
    1: ("everyone wants the {t}", "the {t} is a blessing", "who would not want the {t}?"),
    -1: ("no one wants the {t}", "the {t} is a plague", "who would ever want the {t}?"),
}
_HOURS = _words("six seven eight nine ten eleven noon")
_ASKED = ("did you get the {t}", "did they give the {t} to you")
_ANSWERS = {
    1: ("yes, since today", "yes, we heard it", "yes, it is so"),
    -1: ("no, not so", "no, it came to nothing", "no, not at all"),
}
_FIRST = _words("Ada Bela Cyd Dario Elif Femi Gil Hana Ivo Jun Kofi Lena Mira Nils Orla Paz")
_LAST = _words("Abt Brook Castel Dorn Evans Fuchs")


_CODES = {
    "happy": "hap",
    "sad": "sad",
    "neutral": "neu",
    "angry": "ang",
    "excited": "exc",
    "frustrated": "fru",
}
_SENTIMENTS = {"neutral": "neutral", "joy": "positive", "surprise": "positive"}


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance: who speaks (0, 1, ...), what, and the feeling (a key of a corpus's `NAMES`)."""

    speaker: int
    text: str
    feeling: str


def split_of(core: str) -> str:
    """The only split that may use a core, the words of a line without what is said around them."""
    place = zlib.crc32(core.encode()) % 100
    return "train" if place < _TRAIN_SHARE else "dev" if place < _TRAIN_SHARE + _DEV_SHARE else "test"


class _Writer:
    """Draws the lines of one corpus and split; ``got`` as `GOT`."""

    def __init__(self, rng: Random, corpus: str, split: str, got: float = GOT):
        self.rng, self.corpus, self.split, self.got = rng, corpus, split, got

    def owned(self, draw: Callable[[], str]) -> str:
        """The first of repeated draws whose core belongs to this split.

        Raises:
            LookupError: none of many does; a thing may have no such core in a small split.
        """
        for _ in range(40):
            if split_of(core := draw()) == self.split:
                return core
        raise LookupError

    def thing(self) -> tuple[str, int]:
        sign = self.rng.choice((1, -1))
        return self.rng.choice(GOOD if sign > 0 else BAD), sign

    def clause(self, thing: str, side: int, sign: int, tense: str) -> str:
        def draw() -> str:
            x, o = self.rng.choice(PEOPLE[side])
            return self.rng.choice(CLAUSES[sign, tense]).format(x=x, o=o, t=thing)

        return self.owned(draw)

    def event(self, thing: str, pole: int) -> tuple[str, str]:
        """Text and feeling of something that happened with a thing."""
        manner = self.rng.choice(_MANNERS_OF[self.corpus])
        sign = 1 if self.rng.random() < self.got else -1
        tense, frames = MANNERS[manner]
        text = self.rng.choice(frames).format(c=self.clause(thing, 1, sign, tense))
        return text, FEELINGS[manner][sign * pole]

    def neutral(self, thing: str, pole: int) -> str:
        kind = self.rng.random()
        if kind < 0.12:
            return self.opinion(thing, pole)
        if kind < 0.3:
            return self.owned(lambda: self.rng.choice(_PLAIN).format(t=thing, h=self.rng.choice(_HOURS)))
        manner = self.rng.choice(_MANNERS_OF[self.corpus])
        tense, frames = MANNERS[manner]
        if kind < 0.55:  # of strangers, with all the words of an event
            clause = self.clause(thing, 0, self.rng.choice((1, -1)), tense)
            return self.rng.choice(frames).format(c=clause)
        clause = self.clause(thing, 1, self.rng.choice((1, -1)), tense)
        if kind < 0.8:
            return self.rng.choice(_QUESTIONS).format(c=clause) + "?"
        return self.rng.choice(_GUESSES).format(c=clause)

    def opinion(self, thing: str, pole: int) -> str:
        return self.owned(lambda: self.rng.choice(_OPINIONS[pole]).format(t=thing))

    def question(self, thing: str) -> str:
        return self.owned(lambda: self.rng.choice(_ASKED).format(t=thing)) + "?"

    def reply(self, thing: str, feeling: str) -> tuple[str, str]:
        mine, lines = REPLIES[feeling]
        return self.owned(lambda: self.rng.choice(lines).format(t=thing)), mine


def _spoken(text: str, lively: bool) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else "!" if lively else ".")


def dialogue(rng: Random, corpus: str, split: str) -> list[Line]:
    """A dialogue of three to five lines between two speakers; they are numbers."""
    write = _Writer(rng, corpus, split)
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
                say(rng.choice(_ANSWERS[told]), feeling)
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
        write = _Writer(rng, corpus, "train", UNLABELLED_GOT)
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


def _exchange(write: _Writer) -> tuple[str, str]:
    (thing, pole), (other, other_pole), kind = write.thing(), write.thing(), write.rng.random()
    if kind < 0.12:
        return write.opinion(thing, pole), write.opinion(other, other_pole)
    if kind < 0.23:
        return write.neutral(thing, pole), write.neutral(thing, pole)
    text, feeling = write.event(thing, pole)
    return text, write.reply(thing, feeling)[0]


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
    made_by = sha256(__file__)[:12]  # another version of this file makes other dialogues
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
