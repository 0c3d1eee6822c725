"""Where recognition, self-emotion and reply stand in an answer, in characters and in tokens (Fig. 6).

The three are the values of `last_emotions`, `my_emotions` and `my_output` (T_o, T_s and T_r). The
answer is read as a syntax tree and never evaluated; every answer that keeps the rule, JSON or Python,
reads as one.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence

from rewards.parse import KEYS, THINK_CLOSE

Span = tuple[int, int]


def character_spans(answer: str) -> dict[str, Span]:
    """Start and end of the three values in an answer that keeps the rule (Eq. 8).

    The emotion maps are taken with their braces, the reply without its quotes.

    Args:
        answer: the generated text, think block included.

    Returns:
        key -> (start, end) with ``answer[start:end]`` the value as it was written.

    Raises:
        ValueError: the answer has no such dictionary behind a think block: it breaks the rule.
    """
    begin = answer.find(THINK_CLOSE) + len(THINK_CLOSE)
    end = len(answer.rstrip())
    if begin < len(THINK_CLOSE):
        raise ValueError("the answer has no closed think block, so it has no spans")
    for start in (i for i in range(begin, end) if answer[i] == "{"):
        text = answer[start:end]
        tree = _dictionary(text)
        if tree is None:
            continue
        spans = {
            key.value: _place(text, value)
            for key, value in zip(tree.keys, tree.values, strict=True)
            if isinstance(key, ast.Constant)
        }
        if spans.keys() == set(KEYS):
            first, last = spans["my_output"]
            quote = re.match(r"[A-Za-z]?('''|\"\"\"|'|\")", text[first:last])
            if quote is None:
                break
            spans["my_output"] = (first + quote.end(), last - len(quote[1]))
            return {key: (start + spans[key][0], start + spans[key][1]) for key in KEYS}
    raise ValueError("the answer has no dictionary of the three keys, so it has no spans")


def token_ranges(spans: Mapping[str, Span], offsets: Sequence[Span]) -> dict[str, Span]:
    """The tokens of each span: all that hold one of its characters, or a part of one.

    Args:
        spans: of `character_spans`.
        offsets: start and end of every token in the same text, as a fast tokenizer gives them
            (``return_offsets_mapping=True``); empty for a special token.

    Returns:
        key -> (first token, one behind the last).

    Raises:
        ValueError: a span has no token: the offsets are of another text.
    """
    ranges = {}
    for key, (start, end) in spans.items():
        inside = [i for i, (a, b) in enumerate(offsets) if a < min(b, end) and b > start]
        if not inside:
            raise ValueError(f"no token lies in {key} at {start}:{end}; are the offsets of another text?")
        ranges[key] = (inside[0], inside[-1] + 1)
    return ranges


def _dictionary(text: str) -> ast.Dict | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. "\d" in a reply
            tree = ast.parse(text, mode="eval").body
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return tree if isinstance(tree, ast.Dict) else None


def _place(text: str, node: ast.expr) -> Span:
    """A node's place in characters; the tree has it in lines and bytes of UTF-8."""
    lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def place(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    # The parser always sets both ends; only a tree built by hand may lack the second.
    end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
    return place(node.lineno, node.col_offset), place(end_line, end_column)
