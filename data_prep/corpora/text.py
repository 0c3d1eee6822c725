"""Text of a corpus as it was meant: one line, nothing invisible, decoded once."""

from __future__ import annotations

import logging
import re
import unicodedata
from functools import cache
from pathlib import Path

from data_prep.corpora.errors import DataError
from rewards.parse import has_visible

_log = logging.getLogger(__name__)


def _as_cp1252(byte: int) -> str:
    """A byte in cp1252, or, where that has none, in latin-1, as careless decoders do."""
    return bytes([byte]).decode("cp1252", errors="ignore") or chr(byte)


# Bytes 0x80-0x9F read as latin-1 turn into invisible control characters; they were meant as cp1252.
_LEFTOVERS = {byte: _as_cp1252(byte) for byte in range(0x80, 0xA0) if _as_cp1252(byte) != chr(byte)}


def _wrongly_read(encoding: str, looks: str) -> tuple[str, re.Pattern[str], dict[int, int]]:
    """An encoding, what UTF-8 looks like that was read in it (``~``: a byte but the first), and its bytes."""
    as_read = [bytes([byte]).decode(encoding, errors="ignore") or chr(byte) for byte in range(256)]
    more = "[" + re.escape("".join(as_read[0x80:0xC0])) + "]"
    return encoding, re.compile(looks.replace("~", more)), {ord(char): i for i, char in enumerate(as_read)}


# In cp1252 Â or Ã and one more, â and ð of quotes, dashes, notes, arrows and emoji, ï of a byte-order mark.
# Other first letters are left alone: they may well stand before a quote or a dash, as â may, which is why
# not all that can follow it is looked for. In the others what no language writes.
_WRONGLY_READ = (
    _wrongly_read("cp1252", "[ÂÃ]~|â[€‚]~?|â[ƒ„†‡ˆ‰Š‹Œ˜™šœžŸ\x81\x8d\x8f\x90\x9d]~|ï»¿|ðŸ~"),
    _wrongly_read("mac_roman", "‚Ä~|√~"),
    _wrongly_read("cp437", "ΓÇ~|├~"),
    _wrongly_read("cp1251", "вЂ~"),
)
# Unicode's control characters (category Cc, a closed set), halves of surrogate pairs, which no file in UTF-8
# can hold, and the replacement character.
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
# Joiners belong to words of some scripts and to emoji; the other format characters to no spoken line.
_JOINERS = "\u200c\u200d"
# Not of category Cf, but without a look of their own: a joiner of graphemes, fillers, variation selectors.
_IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


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
    return clean


def _is_spoken(char: str) -> bool:
    return char.isascii() or char in _JOINERS or unicodedata.category(char) != "Cf"


def _decoded_once(text: str, path: str | Path, line: int) -> str:
    """UTF-8 that was read in another encoding and saved, once or more often, read as UTF-8."""
    if text.isascii():
        return text
    for encoding, looks, byte_of in _WRONGLY_READ:
        while found := looks.search(text):
            try:
                text = bytes(byte_of[ord(char)] for char in text).decode()
            except (KeyError, UnicodeDecodeError):  # no exact way back
                problem = f"{found[0]!r} is UTF-8 that was read as {encoding} and saved"
                raise DataError(path, line, problem, "restore the line from the original release") from None
            _note(str(path), line, encoding)
    return text


@cache
def _note(path: str, line: int, encoding: str) -> None:
    told = "%s, line %d: UTF-8 that was read as %s and saved is read as it was meant"
    _log.warning(told, path, line, encoding)
