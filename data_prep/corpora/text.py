"""Text of a corpus as it was meant: one line, nothing invisible, decoded once."""

from __future__ import annotations

import logging
import re
import unicodedata
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
    as_read = _as_read(encoding)
    more = "[" + re.escape("".join(as_read[0x80:0xC0])) + "]"
    return encoding, re.compile(looks.replace("~", more)), _bytes_of(as_read)


def _as_read(encoding: str) -> list[str]:
    """Every byte as a character of an encoding, in the form in which `clean_text` has it."""
    read = [bytes([byte]).decode(encoding, errors="ignore") or chr(byte) for byte in range(256)]
    return [char.translate(_LEFTOVERS) for char in read]


def _bytes_of(as_read: list[str]) -> dict[int, int]:
    return {ord(char): byte for byte, char in enumerate(as_read)}


# In cp1252 Â or Ã and one more, â and ð of quotes, dashes, notes, arrows and emoji, ï of a byte-order mark.
# Other first letters are left alone: they may well stand before a quote or a dash, as â may, which is why
# not all that can follow it is looked for. In the others what no language writes.
_WRONGLY_READ = (
    _wrongly_read("cp1252", "[ÂÃ]~|â[€‚¤]~?|ï¸~?|â[ƒ„†‡ˆ‰Š‹Œ˜™šœžŸ\x81\x8d\x8f\x90\x9d]~|ï»¿|ðŸ~"),
    _wrongly_read("mac_roman", "‚Ä~|√~"),
    _wrongly_read("cp437", "ΓÇ~|├~"),
    _wrongly_read("cp1251", "вЂ~"),
    _wrongly_read("cp850", "ÔÇ~"),
    _wrongly_read("cp1253", "β€~"),
)
# All of a text may turn out to be UTF-8 that was read in one of these, once or more often, whatever it
# begins with. That happens to no line that was written so, unless it is very short; hence what must
# come out: letters of Western Europe, punctuation, signs and emoji, or at least
# two different ones of other letters.
_READ_AS = {
    encoding: _bytes_of(_as_read(encoding))
    for encoding in (
        *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "iso8859_2", "iso8859_15"),
        *("mac_roman", "cp437", "cp850"),
    )
}
_TIMES = 3
# A character of UTF-8 is several bytes, so that none of them is ever alone among ASCII.
_ALONE = re.compile(r"(?<![^\x00-\x7f])[^\x00-\x7f](?![^\x00-\x7f])")
_SIGNS = re.compile(
    "[\u00a0-\u00ff\u200d\u2010-\u203a\u20ac\u2122\u2190-\u21ff\u2600-\u27bf\ufe0f\U0001f300-\U0001faff]"
)
_LETTERS = re.compile("[\u0100-\u017f\u0386-\u03ce\u0401-\u045f\u3001-\u30ff\u4e00-\u9fff\uff01-\uff5e]")
# Unicode's control characters (category Cc, a closed set), halves of surrogate pairs, which no file in UTF-8
# can hold, and the replacement character.
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
# Joiners belong to words of some scripts and to emoji; the other format characters to no spoken line.
_JOINERS = "\u200c\u200d"
# Not of category Cf, but without a look of their own: a joiner of graphemes, fillers, variation selectors.
_IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


_RELEASE = "restore the line from the original release"

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
        raise DataError(path, line, problem, _RELEASE)
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
        raise DataError(path, line, problem, _RELEASE)
    return clean


def _is_spoken(char: str) -> bool:
    return char.isascii() or char in _JOINERS or unicodedata.category(char) != "Cf"


def _decoded_once(text: str, path: str | Path, line: int) -> str:
    """UTF-8 that was read in another encoding and saved, once or more often, read as UTF-8."""
    if text.isascii():
        return text
    while not (text.isascii() or _ALONE.search(text)) and (found := _as_it_was_meant(text)):
        if len(found) > 1:
            problem = f"UTF-8 that was wrongly read and saved, as {' or '.join(found.values())}"
            raise DataError(path, line, problem, _RELEASE)
        ((text, encoding),) = found.items()
        _note(str(path), line, encoding)
    for encoding, looks, byte_of in _WRONGLY_READ:
        while sign := looks.search(text):
            try:
                text = bytes(byte_of[ord(char)] for char in text).decode()
            except (KeyError, UnicodeDecodeError):  # no exact way back
                problem = f"{sign[0]!r} is UTF-8 that was read as {encoding} and saved"
                raise DataError(path, line, problem, _RELEASE) from None
            _note(str(path), line, encoding)
    return text


def _as_it_was_meant(text: str) -> dict[str, str]:
    """What a text says that was wholly read in a wrong encoding -> that encoding; empty if there is none."""
    found: dict[str, str] = {}
    for encoding, byte_of in _READ_AS.items():
        meant = text
        for _ in range(_TIMES):
            try:
                meant = bytes(byte_of[ord(char)] for char in meant).decode()
            except (KeyError, UnicodeDecodeError):
                break
            if _is_likely(meant):
                found.setdefault(meant, encoding)
                break
    return found


def _is_likely(text: str) -> bool:
    others = {char for char in text if not char.isascii() and not _SIGNS.match(char)}
    return len(others) != 1 and all(map(_LETTERS.match, others))


#: Path and encoding -> lines that were mended, and the last of them: files are read more than once.
_mended: dict[tuple[str, str], tuple[int, int]] = {}


def _note(path: str, line: int, encoding: str) -> None:
    """Tells of the first line of a file, of the tenth, of the hundredth, and so on."""
    count, last = _mended.get((path, encoding), (0, 0))
    if line <= last:
        return
    _mended[path, encoding] = count + 1, line
    if str(count + 1).rstrip("0") == "1":
        told = "%s, line %d: UTF-8 that was read as %s and saved is read as it was meant (%s so far)"
        _log.warning(told, path, line, encoding, f"{count + 1:,} line" + ("s" if count else ""))
