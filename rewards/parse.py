"""The output rule (Eq. 8): is a rollout one closed think block and one well-formed dictionary?

The text comes from a model, so nothing in it is ever evaluated: `rewards.literal` reads the dictionary.
Every failure has a name, so that a run can count them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rewards.literal import MAX_ENTRIES, Broken, read_answer

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
KEYS = ("last_emotions", "my_emotions", "my_output")
MAX_EMOTIONS = MAX_ENTRIES
MAX_REPLY_CHARS = 2_000
MAX_LABEL_CHARS = 64
#: Below it a weight says nothing: Eq. 9 is blind to 1e-9, but Eq. 12 would count the label as named.
MIN_WEIGHT = 1e-6

#: Why the rule can fail, in the order in which it is checked; the first fault in the text is named.
REASONS = (
    "no_think",  # no closed think block
    "many_think",  # more than one think block, or tags out of order, or a tag in the reply, if only escaped
    "leading_text",  # something stands before the think block
    "text_between",  # something stands between the think block and the dictionary
    "no_dict",  # what follows the think block is no dictionary of plain literals
    "trailing_text",  # a dictionary is there, but something follows it
    "bad_key",  # a key is missing, unknown or repeated
    "bad_map",  # an emotion field is no dictionary
    "no_emotion",  # an emotion map is empty
    "too_many",  # more than three emotions in a map
    "bad_label",  # a label is not in the corpus's list, or, of `my_emotions`, no plain short text
    "duplicate_label",  # a label occurs twice in a map
    "bad_weight",  # a weight is no plain decimal number in [1e-6, 1]
    "empty_reply",  # the reply is no text, or nothing of it is visible
    "long_reply",  # the reply is longer than 2,000 characters
)

_KEY_SET = frozenset(KEYS)
_A_DICTIONARY = re.compile(rf"\{{\s*+[\"'](?:{'|'.join(KEYS)})[\"']")
_ASCII_LOWER = {ord(char): char.lower() for char in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
# Letters and symbols by category, but blank on the page: fillers of Hangul, Braille, hieroglyphs and
# musical notes, and the signs for an object that is not there and for a character that could not be read.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffc\ufffd\U00013441\U00013442\U0001d159")
# Marks that show nothing of their own (Unicode's Default_Ignorable_Code_Point among Mn): joiners of
# graphemes, selectors of a variation.
_NO_MARK = re.compile("[\u034f\u17b4\u17b5\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_LINE_END = re.compile("[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]")
# Cc, then marks of direction that hold until they are closed (an override turns round what follows, in
# other people's lines, too), then the byte-order mark.
_UNSPOKEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class ParsedOutput:
    """What a rollout says, if it keeps the rule.

    Attributes:
        reason: name of the first broken point of the rule (one of ``REASONS``), None if valid.
        last_emotions: label -> weight as given, labels in the corpus's spelling; empty if invalid.
        my_emotions: the same for the persona's own state, where a label may be outside of the corpus's list;
            such a one is spelled as given, and `rewards.iou.label_from_feelings` leaves it out.
        my_output: the persona's reply; empty if invalid.
    """

    reason: str | None = None
    last_emotions: dict[str, float] = field(default_factory=dict)
    my_emotions: dict[str, float] = field(default_factory=dict)
    my_output: str = ""

    @property
    def valid(self) -> bool:
        """Does the output keep the rule?"""
        return self.reason is None


def parse_output(text: str, labels: Sequence[str]) -> ParsedOutput:
    """Apply the rule of Eq. 8 to one generation.

    Args:
        text: the generated text, without the prompt and without special tokens.
        labels: the corpus's label list; matched whatever the case of ASCII letters.

    Returns:
        The parsed output; never raises on any text. Takes time linear in its length.
    """
    try:
        tail = _after_think(str.__str__(text))  # of a subclass, the text alone
        pairs, end = read_answer(tail)
        if end != len(tail):
            raise Broken("trailing_text")
        return _check(pairs, _spelling(tuple(labels)))
    except Broken as broken:
        return ParsedOutput(reason=str(broken))


def spoken(text: str) -> str:
    """A reply as it stands in a dialogue: one line of text that changes nothing around it.

    Ends of lines and tabs become spaces, runs of white space one space; other control characters
    (Unicode Cc), characters that turn the direction of writing round and byte-order marks are left out, a
    half of a surrogate pair becomes U+FFFD. Joiners inside of words and emoji stay.
    """
    return " ".join(_UNSPOKEN.sub("", _LINE_END.sub(" ", mended(text))).split())


def has_visible(text: str) -> bool:
    """Is anything of a text seen, when control and format characters and blank symbols are taken away?"""
    return any(map(_is_visible, text))


def _after_think(text: str) -> str:
    start, end = text.find(THINK_OPEN), text.find(THINK_CLOSE)
    if start < 0 or end < 0:
        raise Broken("no_think")
    if end < start or _more_tags(text):
        raise Broken("many_think")
    if text[:start].strip():
        raise Broken("leading_text")
    tail = text[end + len(THINK_CLOSE) :].strip()
    if not tail.startswith("{"):
        raise Broken("text_between" if _A_DICTIONARY.search(tail) else "no_dict")
    return tail


def _more_tags(text: str) -> bool:
    # A single character is counted several times as fast, and most answers have no third one.
    return text.count("<") > 2 and (text.count(THINK_OPEN) > 1 or text.count(THINK_CLOSE) > 1)


def _check(pairs: Sequence[tuple[str, Any]], spelling: dict[str, str]) -> ParsedOutput:
    fields = dict(pairs)
    if len(pairs) != len(KEYS) or fields.keys() != _KEY_SET:
        raise Broken("bad_key")
    last = _emotions(fields["last_emotions"], spelling, others=False)
    mine = _emotions(fields["my_emotions"], spelling, others=True)
    return ParsedOutput(last_emotions=last, my_emotions=mine, my_output=_reply(fields["my_output"]))


def _emotions(pairs: Any, spelling: dict[str, str], others: bool) -> dict[str, float]:
    """One emotion map; ``others``: may a label be outside of the corpus's list?"""
    if isinstance(pairs, str):
        raise Broken("bad_map")
    weights: dict[str, float] = {}
    for given, weight in pairs:
        label = spelling.get(given) or spelling.get(_fold(given))
        if label is None:
            label = given
            if not others or not _is_plain_label(label) or _skeleton(label) in map(_skeleton, spelling):
                raise Broken("bad_label")
            if _skeleton(label) in map(_skeleton, weights):
                raise Broken("duplicate_label")
        if label in weights:
            raise Broken("duplicate_label")
        if not MIN_WEIGHT <= weight <= 1:
            raise Broken("bad_weight")
        weights[label] = weight
    return weights


def _reply(reply: Any) -> str:
    if not isinstance(reply, str):
        raise Broken("empty_reply")
    reply = mended(reply)
    if not has_visible(reply[:MAX_REPLY_CHARS]):
        raise Broken("empty_reply")
    if len(reply) > MAX_REPLY_CHARS:
        raise Broken("long_reply")
    # Escapes are resolved now, and what a dialogue leaves out must not bring a tag together.
    if "<" in reply and (_has_tag(reply) or _has_tag("".join(filter(_is_printed, reply)))):
        raise Broken("many_think")
    return reply


# ---- labels ----


@lru_cache(maxsize=64)
def _spelling(labels: tuple[str, ...]) -> dict[str, str]:
    return {_fold(label): label for label in labels}


def _fold(label: str) -> str:
    """Small ASCII letters for large ones and no more: casefold makes an s of the long s, a k of Kelvin's."""
    return label.lower() if label.isascii() else label.translate(_ASCII_LOWER)


def _skeleton(label: str) -> str:
    """The same for labels that differ in case, a letter's form (its full width) or unseen marks alone."""
    return _NO_MARK.sub("", unicodedata.normalize("NFKC", label)).casefold()


def _is_plain_label(label: str) -> bool:
    """May it name a feeling that the corpus does not know? Printed characters, and no tag of any kind."""
    return (
        len(label) <= MAX_LABEL_CHARS
        and label.isprintable()
        and label == label.strip()
        and not _BLANK.intersection(label)
        and "<" not in label
        and ">" not in label
        and any(map(_is_visible, label))
    )


# ---- characters ----


def _is_visible(char: str) -> bool:
    """Letters, numbers, punctuation and symbols; no marks that need another character, no white space."""
    return unicodedata.category(char)[0] in "LNPS" and char not in _BLANK


def _is_printed(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cf")


def _has_tag(text: str) -> bool:
    return THINK_OPEN in text or THINK_CLOSE in text


def mended(text: str) -> str:
    """A text without halves of surrogate pairs, which no file in UTF-8 can hold: joined, or U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
