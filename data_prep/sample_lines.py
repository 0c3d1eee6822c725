"""The lines of the sample dialogues: words, and how who, what and how of an event make a feeling.

An event line says that somebody the speaker cares for got or did not get a thing (a job, a fine). Whether
that is good is the product of two signs: what, and got or not. How it came about (by itself, soon, because
of you, in secret, ...) and the sign together give the feeling (`FEELINGS`), so that no single word decides:
"I got the job" is joy, "I never got the job" and "I got the fine" are sadness, "because of you, I got the
fine" is anger. The same words stand in neutral lines: in questions, in guesses, in news about strangers. A
bare "Yes, since today." means what the question before it makes of it. And feelings cause replies: whoever
answers speaks to the feeling, which is what a small language model can learn from dialogues without labels.

Who-what-and-how of a line decides its split (`split_of`), so no wording of a test line stands in train or
dev, in any corpus.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

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
#: What unlabelled replies may begin with.
LEAD_INS = ("well,", "oh,", "you know,", "I see,", "so that is it,", "that sounds like news,", "listen,")
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
ANSWERS = {
    1: ("yes, since today", "yes, we heard it", "yes, it is so"),
    -1: ("no, not so", "no, it came to nothing", "no, not at all"),
}


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


class LineWriter:
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
