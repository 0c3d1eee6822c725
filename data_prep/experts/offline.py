"""A stand-in for expert LLMs that needs no network: a weak, timid teacher, labelled as what it is.

It never sees a gold label and reads the last line alone, by a list of cues: what was got or not got, and
whether that is a good thing. It dares to name a strong feeling (fear, anger, disgust, surprise, ...) in one
of three lines that show it, drawn by a checksum, and says joy or sadness in the others. So its likeliest
answer is wrong in one way, and the right one stays likely enough for RL to sample it and to raise it.
It thinks first what one would say to the speaker, then names the emotion: a base that has read dialogues
knows the one, and comes to the other through it. It always names three labels with the same weights, since
what a model never saw in the cold start it cannot sample. Its answers keep the output rule; they are no
match for an expert LLM and no claim of the paper rests on them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.labels import corpus_labels

NAME = "offline-expert"

#: Weights of the first, second and third label of every answer.
WEIGHTS = (0.7, 0.2, 0.1)


def _words(text: str) -> list[str]:
    return text.split()


#: Words that a feeling shows in; the first feeling in this order with a hit is taken.
_CUES: dict[str, frozenset[str]] = {
    feeling: frozenset(words.split())
    for feeling, words in {
        "sadness": "sorry sad weep cry regret forgive miss alone hurt died",
        "fear": "tremble frightened afraid scared fear worried danger nervous",
        "anger": "ashamed report angry mad hate furious rude stupid",
        "disgust": "gross disgusting ugly dirty rotten ew yuck",
        "frustration": "sick always never-ending tired",
        "excitement": "want hardly count amazing exciting finally",
        "surprise": "idea guessed wow suddenly unbelievable really",
        "calm": "rest well calm quiet peace relax safe",
        "power": "strong ready sure",
        "joy": "glad drink proud cheer happy love thank wonderful fun nice",
    }.items()
}
_GOT = frozenset(_words("got kept gave went get keep give go have won found passed yes"))
_NOT = frozenset(_words("never not no took take lost failed nothing"))
_ILLS = frozenset(
    _words(
        "fine fever debt blame ban penalty rash flu bill warning curse sentence burden cough summons "
        "injury virus tax scar parasite problem accident"
    )
)
#: Ways in which things come about: words that show them, and the feeling by whether it is good.
_WAYS = (
    (frozenset(_words("tomorrow monday week soon will")), {1: "excitement", -1: "fear"}),
    (frozenset(_words("because thanks you")), {1: "joy", -1: "anger"}),
    (frozenset(_words("secret behind quiet")), {1: "surprise", -1: "disgust"}),
    (frozenset(_words("again once ever")), {1: "calm", -1: "frustration"}),
    (frozenset(_words("through me saw")), {1: "power", -1: "sadness"}),
)
_STRANGERS = frozenset(_words("stranger clerk man"))
#: What a line may mean, too, that sounds like the key; the first that make three different labels count.
_OTHERS = {
    "joy": ("power", "surprise", "sadness", "neutral"),
    "sadness": ("disgust", "joy", "neutral"),
    "excitement": ("surprise", "calm", "fear", "neutral"),
    "fear": ("anger", "excitement", "neutral"),
    "anger": ("sadness", "joy", "neutral"),
    "neutral": ("sadness", "joy"),
    "surprise": ("disgust", "joy", "neutral"),
    "disgust": ("surprise", "anger", "neutral"),
    "frustration": ("anger", "calm", "joy"),
    "calm": ("frustration", "joy", "neutral"),
    "power": ("joy", "sadness", "calm"),
}

#: What each corpus calls a feeling; what it has no word for is its nearest neighbour.
_NAMES: dict[str, dict[str, str]] = {
    "meld": {
        "anger": "anger", "sadness": "sadness", "fear": "fear", "disgust": "disgust",
        "surprise": "surprise", "excitement": "joy", "frustration": "anger", "joy": "joy",
        "power": "joy", "calm": "neutral", "neutral": "neutral",
    },
    "iemocap": {
        "anger": "angry", "sadness": "sad", "fear": "frustrated", "disgust": "frustrated",
        "surprise": "excited", "excitement": "excited", "frustration": "frustrated", "joy": "happy",
        "power": "excited", "calm": "neutral", "neutral": "neutral",
    },
    "emorynlp": {
        "anger": "Mad", "sadness": "Sad", "fear": "Scared", "disgust": "Mad",
        "surprise": "Joyful", "excitement": "Joyful", "frustration": "Mad", "joy": "Joyful",
        "power": "Powerful", "calm": "Peaceful", "neutral": "Neutral",
    },
    "dailydialog": {
        "anger": "anger", "sadness": "sadness", "fear": "fear", "disgust": "disgust",
        "surprise": "surprise", "excitement": "happiness", "frustration": "anger", "joy": "happiness",
        "power": "happiness", "calm": "no emotion", "neutral": "no emotion",
    },
}  # fmt: skip

#: To each feeling: what comes to mind, the teacher's own feeling, and its reply about {topic}.
_REACTIONS: dict[str, tuple[str, str, str]] = {
    "joy": ("I am so glad", "joy", "I am happy about the {topic}."),
    "sadness": ("I am sorry", "sadness", "It is sad about the {topic}."),
    "fear": ("I tremble", "fear", "I fear the {topic}, too."),
    "anger": ("Forgive me", "sadness", "I am sorry for the {topic}."),
    "disgust": ("They should be ashamed", "anger", "I am angry about the {topic}."),
    "surprise": ("I had no idea", "surprise", "Wow, what a surprise, the {topic}."),
    "excitement": ("I can hardly wait", "excitement", "I want to see the {topic}."),
    "frustration": ("I am sick of this", "frustration", "I am tired of the {topic}."),
    "power": ("I am proud of you", "joy", "I am happy about the {topic}."),
    "calm": ("Then I can rest", "calm", "It is quiet about the {topic}."),
    "neutral": ("Well", "neutral", "Let us speak of the {topic}."),
}


def guess_feelings(text: str) -> tuple[str, ...]:
    """The feelings that an utterance may show, likeliest first, from its words alone."""
    words = re.findall(r"[a-z]+", text.lower())
    first = _first_feeling(text, words)
    return (first, *_OTHERS[first])


def _first_feeling(text: str, words: Sequence[str]) -> str:
    if text.endswith("?") or "whether" in words:
        return "neutral"
    for feeling, cues in _CUES.items():
        if cues & set(words) and not (_GOT | _NOT) & set(words):
            return feeling
    got, missed = _GOT & set(words), _NOT & set(words)
    if not (got or missed) or _STRANGERS & set(words):
        return "neutral"
    good = (-1 if missed else 1) * (-1 if _ILLS & set(words) else 1)
    if zlib.crc32(text.encode()) % 3 == 0:  # timid: a strong feeling is named now and then only
        for cues, feelings in _WAYS:
            if cues & set(words):
                return feelings[good]
    return "joy" if good > 0 else "sadness"


def names_of(corpus: str) -> Mapping[str, str]:
    """What a corpus calls the feelings; one that is not listed: its labels of those names, else its first."""
    if corpus in _NAMES:
        return _NAMES[corpus]
    labels = corpus_labels(corpus)
    spelled = {label.casefold(): label for label in labels}
    return {feeling: spelled.get(feeling, labels[0]) for feeling in _NAMES["meld"]}


def topic_of(text: str) -> str:
    """What a line is about: the word after its last "the", "a" or "my", else "news"."""
    found = re.findall(r"\b(?:the|a|my|this) ([a-z]{3,})", text.lower())
    return found[-1] if found else "news"


def respond(context: Sequence[Mapping[str, str]], persona: Mapping[str, str], corpus: str) -> str:
    """An expert response (think block and dictionary) to one prompt; it keeps the output rule.

    Args:
        context: the dialogue so far, each turn with ``speaker`` and ``text``.
        persona: ``name`` and ``profile`` of the speaker who answers.
        corpus: decides the label list.
    """
    last, names = context[-1], names_of(corpus)
    feelings = guess_feelings(last["text"])
    labels = [*(names[feeling] for feeling in feelings), *corpus_labels(corpus)]
    labels = list(dict.fromkeys(labels))[: len(WEIGHTS)]
    seen = dict(zip(labels, WEIGHTS, strict=True))
    thought, mine, reply = _REACTIONS[feelings[0]]
    topic = next((t for turn in reversed(context) if (t := topic_of(turn["text"])) != "news"), "news")
    return (
        f"<think>{thought}. That sounds {labels[0]}.</think>\n"
        f"{{'last_emotions': {seen!r}, 'my_emotions': {{{names[mine]!r}: 0.8}}, "
        f"'my_output': {reply.format(topic=topic)!r}}}"
    )


def respond_to(row: Mapping[str, Any]) -> str:
    """`respond` to a row of `data_prep.rows.SCHEMA`."""
    info = row["extra_info"]
    return respond(info["context"], info["persona"], row["data_source"])


def profile(name: str, lines: Sequence[str]) -> str:
    """One sentence about a speaker, from the look of the lines alone."""
    words = sum(len(line.split()) for line in lines) / max(len(lines), 1)
    manner = "brief" if words < 6 else "talkative" if words > 12 else "plain-spoken"
    asks = sum("?" in line for line in lines) / max(len(lines), 1)
    shouts = sum("!" in line for line in lines) / max(len(lines), 1)
    mood = "curious" if asks > 0.4 else "lively" if shouts > 0.3 else "even-tempered"
    return f"A {manner} and {mood} person."
