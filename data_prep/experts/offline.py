"""A stand-in for expert LLMs that needs no network: deterministic, and labelled as what it is.

It never sees a gold label. It guesses emotions from a small list of cue words, writes a persona
from how a speaker's lines look, and answers with stock phrases. Its answers keep the output rule, so
they teach the format; they are no match for an expert LLM and no claim of the paper rests on them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.labels import corpus_labels
from rewards.parse import parse_output

NAME = "offline-expert"

#: Cue words of broad feelings; the first feeling in this order wins a tie.
_CUES: dict[str, frozenset[str]] = {
    feeling: frozenset(words.split())
    for feeling, words in {
        "anger": "angry mad hate furious stop dare shut stupid rude fault blame",
        "sadness": "sad sorry miss lost cry crying alone lonely gone died hurt",
        "fear": "afraid scared fear worried dark help danger scary nervous",
        "disgust": "gross disgusting ugly smell smells dirty sick ew yuck rotten",
        "surprise": "wow really what suddenly unbelievable surprise seriously",
        "excitement": "wait amazing exciting cannot finally",
        "frustration": "again nothing works never tired give",
        "joy": "happy great love glad thanks thank wonderful good fun nice yay",
        "power": "win strong can will ready sure proud",
        "calm": "calm quiet peace rest relax slow easy safe",
    }.items()
}

#: What each corpus calls a broad feeling; what it has no word for is its nearest neighbour.
_NAMES: dict[str, dict[str, str]] = {
    "meld": {
        "anger": "anger", "sadness": "sadness", "fear": "fear", "disgust": "disgust",
        "surprise": "surprise", "excitement": "joy", "frustration": "anger", "joy": "joy",
        "power": "joy", "calm": "neutral", "neutral": "neutral",
    },
    "iemocap": {
        "anger": "angry", "sadness": "sad", "fear": "frustrated", "disgust": "angry",
        "surprise": "excited", "excitement": "excited", "frustration": "frustrated", "joy": "happy",
        "power": "excited", "calm": "neutral", "neutral": "neutral",
    },
    "emorynlp": {
        "anger": "Mad", "sadness": "Sad", "fear": "Scared", "disgust": "Mad",
        "surprise": "Scared", "excitement": "Joyful", "frustration": "Mad", "joy": "Joyful",
        "power": "Powerful", "calm": "Peaceful", "neutral": "Neutral",
    },
}  # fmt: skip

_REACTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "anger": ("fear", ("Please calm down.", "I did not mean it.", "Let us talk about it.")),
    "sadness": ("sadness", ("I am so sorry.", "I am here for you.", "That must hurt.")),
    "fear": ("calm", ("You are safe with me.", "It will be fine.", "I will stay with you.")),
    "disgust": ("surprise", ("Take it away, please.", "That sounds bad.", "Let us clean it.")),
    "surprise": ("joy", ("I know, right?", "I did not see that coming.", "It is true.")),
    "excitement": ("joy", ("That is great news!", "I am happy for you!", "Tell me more!")),
    "frustration": ("calm", ("Take a break.", "Let me help you.", "We can try again.")),
    "joy": ("joy", ("I am so glad!", "That is wonderful.", "You made my day.")),
    "power": ("power", ("You can do it!", "I am with you.", "Go for it.")),
    "calm": ("calm", ("It is nice here.", "Let us stay a while.", "I feel good too.")),
    "neutral": ("neutral", ("All right.", "I see.", "Tell me more.")),
}


#: How sure an answer sounds: the weights of its first, second and third label.
_MANNERS = ((0.9, 0.1, 0.1), (0.6, 0.3, 0.1), (0.6, 0.2, 0.2), (0.5, 0.4, 0.3))


def guess_feelings(text: str) -> list[str]:
    """All broad feelings that an utterance may show, likeliest first, from its cue words alone."""
    words = re.findall(r"[a-z]+", text.lower())
    hits = {feeling: sum(word in cues for word in words) for feeling, cues in _CUES.items()}
    found = sorted((f for f in hits if hits[f]), key=lambda f: -hits[f])
    usual = ["neutral", "joy", "sadness", "anger"] if "!" in text else ["neutral", "sadness", "calm", "joy"]
    return list(dict.fromkeys([*found, *usual]))


def respond(context: Sequence[Mapping[str, str]], persona: Mapping[str, str], corpus: str) -> str:
    """An expert response (think block and dictionary) to one prompt; it keeps the output rule.

    It always names three labels, and is sure of some lines and torn about others, here by the line's
    checksum: what a model never saw in cold start it cannot sample, and what it cannot sample RL
    cannot choose. (With experts that name one or two labels, r2 pays for naming more of them as
    lambda grows, and the reward of Eq. 8 falls.)

    Args:
        context: the dialogue so far, each turn with ``speaker`` and ``text``.
        persona: ``name`` and ``profile`` of the speaker who answers.
        corpus: decides the label list.
    """
    last, names = context[-1], _NAMES[corpus]
    feelings = guess_feelings(last["text"])
    labels = list(dict.fromkeys(names[feeling] for feeling in feelings))
    manner = _MANNERS[zlib.crc32(last["text"].encode()) % len(_MANNERS)]
    seen = dict(zip(labels, manner, strict=False))
    mine, replies = _REACTIONS[feelings[0]]
    reply = replies[zlib.crc32(f"{persona['name']}|{last['text']}".encode()) % len(replies)]
    text = (
        f"<think>{last['speaker']} sounds {labels[0]}. I feel {names[mine]}.</think>\n"
        f"{{'last_emotions': {seen!r}, 'my_emotions': {{{names[mine]!r}: 0.8}}, 'my_output': {reply!r}}}"
    )
    parsed = parse_output(text, corpus_labels(corpus))
    if not parsed.valid:  # a name such as "<think>" in the data would break it
        raise ValueError(f"the offline expert broke the rule ({parsed.reason}) on {last!r}")
    return text


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
