"""Text of a corpus as it was meant: one line, nothing invisible, decoded once."""

from __future__ import annotations

import logging
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import NamedTuple

from data_prep.corpora.errors import DataError
from rewards.parse import has_visible

_log = logging.getLogger(__name__)


def _as_cp1252(byte: int) -> str:
    """A byte in cp1252, or, where that has none, in latin-1, as careless decoders do."""
    return bytes([byte]).decode("cp1252", errors="ignore") or chr(byte)


# Bytes 0x80-0x9F read as latin-1 turn into invisible control characters; they were meant as cp1252.
_LEFTOVERS = {byte: _as_cp1252(byte) for byte in range(0x80, 0xA0) if _as_cp1252(byte) != chr(byte)}


# What may well follow a letter: quotes, dashes, points, signs of trade, degrees, exponents, a fixed space.
_FOLLOWS = frozenset("\u2018\u2019\u201a\u201c\u201d\u201e\xab\xbb\u2013\u2014\u2026\u2022\xb7\xa1\xbf")
_FOLLOWS |= frozenset("\xa9\xae\u2122\xb0\xb2\xb3\xb9\xa0")


class _WronglyRead(NamedTuple):
    """How UTF-8 looks that was read in another encoding.

    Attributes:
        encoding: the other one.
        looks: a part of such a text.
        bytes_of: its characters.
        sure: does no other text look so? Else only the exact way back shows it.
    """

    encoding: str
    looks: re.Pattern[str]
    bytes_of: dict[int, int]
    sure: bool


def _wrongly_read(encoding: str, looks: str, sure: bool = True) -> _WronglyRead:
    """Letters in ``looks`` stand for sets of characters, by the byte that they are in ``encoding``.

    ``~`` is a byte but the first, ``!`` one of them that is no letter there, nor anything that follows one;
    ``2``, ``3`` and ``4`` are the first of as many bytes, ``C`` a capital of those of ``2``, ``A`` the first
    of most of Europe's small letters.
    """
    as_read = [bytes([byte]).decode(encoding, errors="ignore") or chr(byte) for byte in range(256)]
    more, two = as_read[0x80:0xC0], as_read[0xC2:0xE0]
    odd = [char for char in more if char not in _FOLLOWS and (char in "\xaa\xb5\xba" or not char.isalpha())]
    sets = {"~": more, "!": odd, "2": two, "3": as_read[0xE0:0xF0], "4": as_read[0xF0:0xF5]}
    sets |= {"C": list(filter(str.isupper, two)), "A": as_read[0xC3:0xC4]}
    pattern = re.sub("[~!234CA]", lambda found: f"[{re.escape(''.join(sets[found[0]]))}]", looks)
    return _WronglyRead(encoding, re.compile(pattern), {ord(char): i for i, char in enumerate(as_read)}, sure)


# In cp1252 Â or Ã and one more, â and ð of quotes, dashes, notes, arrows and emoji, ï of a byte-order mark.
# In those of DOS and old Macs, whose first bytes are lines and signs, what no language writes. In those of
# Windows any other first letter, too, but not where only what may follow a letter follows it, unless it is a
# capital in the middle of a word.
_ANY = "2!|3!~|3~!|4!~~|4~!~|4~~!|(?<=[a-z])C~|A[©®]"
_WRONGLY_READ = (
    _wrongly_read("cp1252", "[ÂÃ]~|â[€‚]~?|â[ƒ„†‡ˆ‰Š‹Œ˜™šœžŸ\x81\x8d\x8f\x90\x9d]~|ï»¿|ðŸ~"),
    _wrongly_read("mac_roman", "‚[ÄÇÉÑÖÜôöõú]~|√~|¬[£©®±¥°∞Ω†]|\uf8ffü~~"),
    _wrongly_read("cp437", "Γ[ÇéåêîÖ]~|├~|┬~|≡ƒ~~"),
    _wrongly_read("cp850", "Ô[ÇéåÖ]~|├~|┬~|\xadƒ~~"),
    _wrongly_read("cp1251", "вЂ~"),
    *(
        _wrongly_read(encoding, _ANY, sure=False)
        for encoding in ("cp1252", "cp1257", "cp1250", "cp1251", "cp1253", "cp1254")
    ),
)
# Unicode's control characters (category Cc, a closed set), halves of surrogate pairs, which no file in UTF-8
# can hold, the replacement character, and what is a character in no text.
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffd-\uffff]")
# Joiners belong to words of some scripts and to emoji; the other format characters to no spoken line.
_JOINERS = "\u200c\u200d"
# Not of category Cf, but without a look of their own: a joiner of graphemes, fillers, variation selectors.
_IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


#: A list, tuple or array as Python prints it, where a name should stand.
_PRINTED = re.compile(r"\w*[\[({]+\s*\w?(['\"]).+\1\s*,?\s*[\])}]+(?:,\s*dtype=.*)?")

#: Characters that no utterance and no name of a corpus has: a file that has them is another one, or broken.
MOST_TEXT, MOST_NAME = 10_000, 200


def clean_text(text: str, path: str | Path, line: int) -> str:
    """Text in one line, without invisible characters, cp1252 leftovers and double decoding mended.

    Returns:
        The text; empty where nothing of it would be seen.

    Raises:
        DataError: a control or replacement character is in it, it was decoded twice and what it said
            cannot be told, or it is too long.
    """
    if len(text) > MOST_TEXT:
        problem = f"{len(text):,} characters where an utterance has at most {MOST_TEXT:,}"
        raise DataError(path, line, problem, "restore the line from the original release")
    # The leftovers come first: U+0085, an ellipsis in cp1252, counts as white space for str.split.
    clean = _decoded_once(text.translate(_LEFTOVERS), path, line)
    clean = " ".join("".join(filter(_is_spoken, clean)).split())
    if found := _UNREADABLE.search(clean):
        raise DataError(
            path,
            line,
            f"unreadable character U+{ord(found[0]):04X}",
            "restore the line from the original release, or save the file as UTF-8",
        )
    return clean if has_visible(clean) else ""


def clean_name(name: str, path: str | Path, line: int) -> str:
    """`clean_text` of a name, so that two names that look alike for what is invisible are one person."""
    bare = "".join(char for char in _IGNORED.sub("", name) if unicodedata.category(char) != "Cf")
    if any(map(unicodedata.combining, bare)):  # an accent may be a character of its own, or part of a letter
        bare = unicodedata.normalize("NFC", bare)
    clean = clean_text(bare, path, line)
    if len(clean) > MOST_NAME:
        problem = f"{len(clean):,} characters where names have at most {MOST_NAME}"
        raise DataError(path, line, problem, "restore the line from the original release")
    if _PRINTED.fullmatch(clean):
        problem = f"{clean[:60]!r} is a printed list, not a name"
        raise DataError(path, line, problem, "write the name alone, of several people as 'Ann and Bob'")
    return clean


def _is_spoken(char: str) -> bool:
    return char.isascii() or char in _JOINERS or unicodedata.category(char) != "Cf"


def _decoded_once(text: str, path: str | Path, line: int) -> str:
    """UTF-8 that was read in another encoding and saved, once or more often, read as UTF-8."""
    while not text.isascii():
        seen = [(known, look[0]) for known in _WRONGLY_READ if (look := known.looks.search(text))]
        for known, _ in seen:
            try:
                text = bytes(known.bytes_of[ord(char)] for char in text).decode()
            except (KeyError, UnicodeDecodeError):  # no exact way back
                continue
            _note(str(path), line, known.encoding)
            break
        else:
            if surely := next(((known, look) for known, look in seen if known.sure), None):
                problem = f"{surely[1]!r} is UTF-8 that was read as {surely[0].encoding} and saved"
                raise DataError(path, line, problem, "restore the line from the original release")
            return text
    return text


@cache
def _note(path: str, line: int, encoding: str) -> None:
    told = "%s, line %d: UTF-8 that was read as %s and saved is read as it was meant"
    _log.warning(told, path, line, encoding)
