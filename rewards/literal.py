"""Reads the one dictionary that an answer may hold (Eq. 8): strictly, in one pass, evaluating nothing.

    answer = "{" entry { "," entry } [ "," ] "}"          entry = text ":" ( map | text )
    map    = "{" feeling { "," feeling } [ "," ] "}"       feeling = text ":" number

It is read as JSON or, failing that, as a Python literal, as a whole: what is accepted, `json.loads` or
`ast.literal_eval` reads with the same values. Of both languages only the plain forms count:

- a number is 1, 0.25, .5, 1. or 2.5e-1 (an exponent is plain in both languages), without a sign, a
  needless zero in front, an underscore or another base;
- a text stands in one pair of quotes in one line, without a prefix (b, f, r, u), tripled quotes or a second
  text behind it that Python would join; escapes are resolved as the language does, an unknown one of
  Python's (backslash and d) stays as it is;
- no comments, parentheses or continued lines; a comma behind the last entry is Python's.

Every loop of an expression here is possessive and no place is read more than a few times, so the cost is
linear in the length whatever the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

#: More entries than the rule allows in a dictionary are not read.
MAX_ENTRIES = 3
#: A text with more escapes than this is not resolved: it has over 2,000 characters, since a character is
#: written with two backslashes at most (an escaped one, or Python's two halves of a surrogate pair).
MAX_BACKSLASHES = 4_000

Pairs = list[tuple[str, float]]


class Broken(Exception):
    """The rule is broken; the argument is the reason's name."""


class Dialect(NamedTuple):
    """One of the two languages: how an entry looks, and what an escape means."""

    entry: re.Pattern[str]
    escape: re.Pattern[str]
    resolve: Callable[[re.Match[str]], str]


# ---- escapes ----

_HEX = "[0-9a-fA-F]"
_JSON_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_PYTHON_ESCAPES = {
    "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
    "v": "\v",
}  # fmt: skip


def _resolve_json(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] != "u":
        return _JSON_ESCAPES[code]
    if len(code) == 5:
        return chr(int(code[1:], 16))
    high, low = int(code[1:5], 16), int(code[7:], 16)  # the two halves of one character
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def _resolve_python(found: re.Match[str]) -> str:
    code = found[1]
    if code in _PYTHON_ESCAPES:
        return _PYTHON_ESCAPES[code]
    kind = code[0]
    try:
        if kind in "01234567":
            return chr(int(code, 8))
        if kind in "xuU":
            return chr(int(code[1:], 16))
        if kind == "N":
            return chr(ord(unicodedata.lookup(code[2:-1])))  # a sequence with a name is no character
    except (KeyError, ValueError, TypeError, OverflowError):
        raise Broken("no_dict") from None
    return found[0]


# ---- the grammar, once for each language ----


def _entry(space: str, text: str, number: str, comma: str) -> re.Pattern[str]:
    """Key, three times label and weight, text, and what follows the entry: a comma or the end."""
    feeling = f"({text}){space}:{space}({number}){space}"
    more = f"(?:,{space}{feeling}"
    feelings = rf"\{{{space}{feeling}{more}{more})?)?{comma}\}}"
    return re.compile(rf"{space}({text}){space}:{space}(?:{feelings}|({text})){space}({comma}\}}|,)")


_EXPONENT = "(?:[eE][+-]?[0-9]++)?"
_DIGITS = "(?:0|[1-9][0-9]*+)"
_JSON_NUMBER = rf"{_DIGITS}(?:\.[0-9]++)?{_EXPONENT}"
_PYTHON_NUMBER = rf"(?:{_DIGITS}(?:\.[0-9]*+)?|\.[0-9]++){_EXPONENT}"
_JSON_SPACE, _PYTHON_SPACE = r"[ \t\n\r]*+", r"[ \t\n\r\f]*+"
# Ranges of what may stand in a text, which are read twice as fast as the few that may not: JSON has no
# control characters there; Python none that end a line and no lone surrogate, its source being UTF-8.
_JSON_TEXT = (
    r'"[ !#-\[\]-\U0010ffff]*+'
    rf'(?:\\(?:["\\/bfnrt]|u{_HEX}{{4}})[ !#-\[\]-\U0010ffff]*+)*+"'
)
_PYTHON_TEXT = "(?:{}|{})".format(
    *(
        rf"{quote}[{plain}]*+(?:\\[{plain}'\"\\][{plain}]*+)*+{quote}"
        for quote, plain in (
            ("'", r"\x01-\t\x0b\x0c\x0e-&(-\[\]-\ud7ff\ue000-\U0010ffff"),
            ('"', r"\x01-\t\x0b\x0c\x0e-!#-\[\]-\ud7ff\ue000-\U0010ffff"),
        )
    )
)

_JSON = Dialect(
    entry=_entry(_JSON_SPACE, _JSON_TEXT, _JSON_NUMBER, comma=""),
    escape=re.compile(rf"\\(u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}|u{_HEX}{{4}}|.)"),
    resolve=_resolve_json,
)
_PYTHON = Dialect(
    entry=_entry(_PYTHON_SPACE, _PYTHON_TEXT, _PYTHON_NUMBER, comma=rf"(?:,{_PYTHON_SPACE})?"),
    escape=re.compile(rf"\\([0-7]{{1,3}}|x{_HEX}{{2}}|u{_HEX}{{4}}|U{_HEX}{{8}}|N\{{[^}}]++\}}|.)"),
    resolve=_resolve_python,
)
_JSON_START = re.compile(rf'\{{{_JSON_SPACE}"')


def read_answer(text: str) -> tuple[list[tuple[str, Pairs | str]], int]:
    """The dictionary that ``text`` starts with.

    Args:
        text: what follows the think block, from its opening brace on.

    Returns:
        Its (key, value) pairs in order, repeated ones included: a text as a str, a map as its (label,
        weight) pairs; and the place behind its closing brace.

    Raises:
        Broken: it is no dictionary of the grammar above; the reason names the first fault.
    """
    if text[1:2] != "'" and _JSON_START.match(text):
        pairs, at, whole = _read(text, _JSON)
        if whole:
            return pairs, at
    pairs, at, whole = _read(text, _PYTHON)
    if not whole:
        raise Broken(_fault(text, at, [key for key, _ in pairs]))
    return pairs, at


def _read(text: str, dialect: Dialect) -> tuple[list[tuple[str, Pairs | str]], int, bool]:
    """The entries that can be read, the place behind them, and whether that is behind the closing brace."""
    pairs: list[tuple[str, Pairs | str]] = []
    match, at = dialect.entry.match, 1
    while len(pairs) < MAX_ENTRIES and (found := match(text, at)):
        key, label, weight, label2, weight2, label3, weight3, said, follows = found.groups()
        value: Pairs | str
        if said is not None:
            value = _resolved(said, dialect, "long_reply")
        else:
            value = [(_resolved(label, dialect, "bad_label"), float(weight))]
            if label2 is not None:
                value.append((_resolved(label2, dialect, "bad_label"), float(weight2)))
            if label3 is not None:
                value.append((_resolved(label3, dialect, "bad_label"), float(weight3)))
        pairs.append((_resolved(key, dialect, "bad_key"), value))
        at = found.end()
        if follows != ",":
            return pairs, at, True
    return pairs, at, False


def _resolved(quoted: str, dialect: Dialect, too_long: str) -> str:
    if "\\" not in quoted:
        return quoted[1:-1]
    if quoted.count("\\") > MAX_BACKSLASHES:
        raise Broken(too_long)
    return dialect.escape.sub(dialect.resolve, quoted[1:-1])


# ---- why a text is no such dictionary ----
# Only names the fault, for the counts of a run and for an expert who is asked again: nothing here can make
# an answer valid. A value of another kind is looked at for so many characters, then called no literal.

_LOOK = 4_000

_ATOM = (
    rf"(?:[bB]?{_PYTHON_TEXT}|[+-]*+(?:[0-9]|\.[0-9])[\w.]*+(?:[+-][0-9][\w.]*+)?"
    r"|[+-]?(?:True|False|None|true|false|null|NaN|Infinity)\b)"
)
_FLAT = rf"[\[({{]{_PYTHON_SPACE}(?:{_ATOM}{_PYTHON_SPACE}[,:]?{_PYTHON_SPACE})*+[\])}}]"
_DEEP = rf"[\[({{]{_PYTHON_SPACE}(?:(?:{_ATOM}|{_FLAT}){_PYTHON_SPACE}[,:]?{_PYTHON_SPACE})*+[\])}}]"
_SKIP = re.compile(_PYTHON_SPACE)
_KEY = re.compile(rf"({_PYTHON_TEXT}){_PYTHON_SPACE}:{_PYTHON_SPACE}")
_OTHER_KEY = re.compile(rf"(?:{_ATOM}|{_FLAT}){_PYTHON_SPACE}:")
_IN_SET = re.compile(rf"{_ATOM}{_PYTHON_SPACE}[,}}]")
_OTHER = re.compile(rf"(?:{_ATOM}|{_FLAT}|{_DEEP}){_PYTHON_SPACE}[,}}]")
_TEXT = re.compile(_PYTHON_TEXT)
_WEIGHT = re.compile(rf"{_PYTHON_NUMBER}{_PYTHON_SPACE}(?=[,}}])")


def _fault(text: str, at: int, keys: list[str]) -> str:
    """The reason why no entry can be read at ``at``, behind the entries ``keys``."""
    at = _behind_spaces(text, at)
    key = _KEY.match(text, at)
    if key is None:
        empty = not keys and text.startswith("}", at)
        return "bad_key" if empty or _OTHER_KEY.match(text, at, at + _LOOK) else "no_dict"
    name = _resolved(key[1], _PYTHON, "bad_key")
    at = key.end()
    if len(keys) == MAX_ENTRIES or name in keys or name not in ("last_emotions", "my_emotions", "my_output"):
        return "bad_key"
    if name == "my_output":
        return (
            "empty_reply" if _OTHER.match(text, at, at + _LOOK) and not _TEXT.match(text, at) else "no_dict"
        )
    if not text.startswith("{", at):
        return "bad_map" if _OTHER.match(text, at, at + _LOOK) else "no_dict"
    return _fault_of_map(text, at + 1)


def _behind_spaces(text: str, at: int) -> int:
    spaces = _SKIP.match(text, at)
    return spaces.end() if spaces else at


def _fault_of_map(text: str, at: int) -> str:
    for read in range(MAX_ENTRIES + 1):
        at = _behind_spaces(text, at)
        if text.startswith("}", at):
            return "no_dict" if read else "no_emotion"
        if read == MAX_ENTRIES:
            return "too_many"
        label = _KEY.match(text, at)
        if label is None:
            if _IN_SET.match(text, at):
                return "bad_map"
            return "bad_label" if _OTHER_KEY.match(text, at, at + _LOOK) else "no_dict"
        at = label.end()
        weight = _WEIGHT.match(text, at)
        if weight is None:
            return "bad_weight" if _OTHER.match(text, at, at + _LOOK) else "no_dict"
        at = weight.end()
        if text.startswith("}", at):
            break
        at += 1
    return "no_dict"
