"""The output rule (Eq. 8): is a rollout one closed think block and one well-formed dictionary?

The text comes from a model, so nothing in it is ever evaluated: it is read as JSON or, failing
that, walked as a syntax tree of literals. Every failure has a name, so that a run can count them.
"""

from __future__ import annotations

import ast
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
KEYS = ("last_emotions", "my_emotions", "my_output")
MAX_EMOTIONS = 3
MAX_REPLY_CHARS = 2_000

#: Why the rule can fail, in the order in which it is checked.
REASONS = (
    "no_think",  # no closed think block
    "many_think",  # more than one think block, or tags out of order
    "no_dict",  # nothing after the think block reads as a dictionary
    "trailing_text",  # a dictionary is there, but something follows it
    "bad_key",  # a key is missing, unknown or repeated
    "bad_map",  # an emotion field is no dictionary
    "no_emotion",  # an emotion map is empty
    "too_many",  # more than three emotions in a map
    "bad_label",  # a label is not in the corpus's list
    "duplicate_label",  # a label occurs twice in a map
    "bad_weight",  # a weight is no finite number in (0, 1]
    "empty_reply",  # the reply is no text, or blank
    "long_reply",  # the reply is longer than 2,000 characters
)

# A dictionary starts at one of the first few opening braces; text with more is not searched
# further, so that hostile output cannot cost quadratic time.
_MAX_STARTS = 16


@dataclass(frozen=True)
class ParsedOutput:
    """What a rollout says, if it keeps the rule.

    Attributes:
        reason: name of the first broken point of the rule (one of ``REASONS``), None if valid.
        last_emotions: label -> weight as given, labels in the corpus's spelling; empty if invalid.
        my_emotions: the same for the persona's own state.
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


class _Pairs(list):
    """A dictionary as its (key, value) pairs: duplicates stay visible."""


class _Broken(Exception):
    """The rule is broken; the argument is the reason's name."""


def parse_output(text: str, labels: Sequence[str]) -> ParsedOutput:
    """Apply the rule of Eq. 8 to one generation.

    Args:
        text: the generated text, without the prompt and without special tokens.
        labels: the corpus's label list; matched after case folding.

    Returns:
        The parsed output; never raises on any text.
    """
    try:
        pairs = _read_dictionary(_after_think(text))
        return _check(pairs, {label.casefold(): label for label in labels})
    except _Broken as broken:
        return ParsedOutput(reason=str(broken))


def _after_think(text: str) -> str:
    opened, closed = text.count(THINK_OPEN), text.count(THINK_CLOSE)
    if not opened or not closed:
        raise _Broken("no_think")
    if opened > 1 or closed > 1 or text.index(THINK_OPEN) > text.index(THINK_CLOSE):
        raise _Broken("many_think")
    return text[text.index(THINK_CLOSE) + len(THINK_CLOSE) :].strip()


def _read_dictionary(tail: str) -> _Pairs:
    """The dictionary that ``tail`` ends with."""
    starts = [i for i, char in enumerate(tail) if char == "{"][:_MAX_STARTS]
    if tail.endswith("}"):
        for start in starts:
            found = _literal(tail[start:])
            if isinstance(found, _Pairs):
                return found
    ends = [i + 1 for i, char in enumerate(tail) if char == "}"][-_MAX_STARTS:]
    if any(isinstance(_literal(tail[starts[0] : end]), _Pairs) for end in reversed(ends) if starts):
        raise _Broken("trailing_text")
    raise _Broken("no_dict")


def _literal(text: str) -> Any:
    """``text`` as a JSON value or a Python literal, dictionaries as ``_Pairs``; None if it is neither."""
    try:
        return json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. "\d" in a reply
            tree = ast.parse(text, mode="eval").body
        if ast.get_source_segment(text, tree) != text:  # a comment follows, which is no part of the tree
            return None
        return _from_tree(tree)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _from_tree(node: ast.expr | None) -> Any:
    if isinstance(node, ast.Dict):
        if any(key is None for key in node.keys):  # {**other}
            raise ValueError("unpacking is no literal")
        return _Pairs((_from_tree(k), _from_tree(v)) for k, v in zip(node.keys, node.values, strict=True))
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_from_tree(item) for item in node.elts]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _from_tree(node.operand)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value if isinstance(node.op, ast.USub) else value
    raise ValueError("not a literal")


def _check(pairs: _Pairs, spelling: dict[str, str]) -> ParsedOutput:
    keys = [key for key, _ in pairs]
    if len(keys) != len(KEYS) or any(key not in keys for key in KEYS):
        raise _Broken("bad_key")
    fields = dict(zip(keys, (value for _, value in pairs), strict=True))
    last = _emotions(fields["last_emotions"], spelling)
    mine = _emotions(fields["my_emotions"], spelling)
    reply = fields["my_output"]
    if not isinstance(reply, str) or not reply.strip():
        raise _Broken("empty_reply")
    if len(reply) > MAX_REPLY_CHARS:
        raise _Broken("long_reply")
    # An escape may be half of a surrogate pair, which no file in UTF-8 can hold.
    reply = reply.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return ParsedOutput(last_emotions=last, my_emotions=mine, my_output=reply)


def _emotions(pairs: Any, spelling: dict[str, str]) -> dict[str, float]:
    if not isinstance(pairs, _Pairs):
        raise _Broken("bad_map")
    if not pairs:
        raise _Broken("no_emotion")
    if len(pairs) > MAX_EMOTIONS:
        raise _Broken("too_many")
    weights: dict[str, float] = {}
    for key, weight in pairs:
        label = spelling.get(key.casefold()) if isinstance(key, str) else None
        if label is None:
            raise _Broken("bad_label")
        if label in weights:
            raise _Broken("duplicate_label")
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise _Broken("bad_weight")
        if not 0 < weight <= 1 or not math.isfinite(weight):
            raise _Broken("bad_weight")
        weights[label] = float(weight)
    return weights
