"""The reader of the one dictionary against Python's and JSON's own readers, which know nothing of it."""

from __future__ import annotations

import ast
import contextlib
import json
import warnings

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewards.literal import Broken, read_answer
from rewards.parse import REASONS

chunks = st.sampled_from(
    [
        *"'\"\\{}[](),:#/<>_+-. \n\r\t\f\0\x1b\x85\u2028\u00e9\u3042\U0001f600\ud83d\ude00abefnNrtuvxU01789",
        *(r"\n", r"\'", r"\"", r"\\", r"\/", r"\x41", r"\u0041", r"\ud83d\ude00", r"\ud83d", r"\U0001F600"),
        *(
            r"\101",
            r"\777",
            r"\8",
            r"\N{BULLET}",
            r"\N{bullet",
            r"\uD83D\u0041",
            r"\u00e",
            r"\d",
            "\\\n",
            "''",
        ),
        *("my_output", "joy", "0.5", "1", ".5", "1.", "1e-3", "1E5", "01", "0x1", "1_0", "-1", "NaN", "null"),
    ]
)


def readings(text: str) -> list:
    """What JSON reads, then what Python reads, dictionaries as lists of pairs; [] if neither can."""

    def pairs(node: ast.expr):
        if isinstance(node, ast.Dict):
            return [(pairs(k), pairs(v)) for k, v in zip(node.keys, node.values, strict=True)]
        return ast.literal_eval(node)

    read = []
    with contextlib.suppress(ValueError, RecursionError):
        read.append(json.loads(text, object_pairs_hook=list))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read.append(pairs(ast.parse(text, mode="eval").body))
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError):
        pass
    return read


@settings(max_examples=400)
@given(st.lists(chunks, max_size=8).map("".join), st.sampled_from("'\""), st.integers(0, 3))
@example("\\N{LATIN SMALL LETTER E WITH ACUTE}\\xe9\u00e9\\\u00e9", "'", 0)
@example("\\/\\ud83d\\ude00", '"', 0)
@example("\\/\\x2f", '"', 0)
@example(".5,", '"', 1)
def test_what_is_read_is_what_the_language_reads(chunk, quote, place):
    text = [
        f"{{{quote}a{quote}: {quote}{chunk}{quote}}}",
        f"{{{quote}a{quote}: {{{quote}b{quote}: {chunk}}}}}",
        f"{{{quote}{chunk}{quote}: {{{quote}{chunk}{quote}: 0.5}}}}",
        f"{{{chunk}{quote}a{quote}{chunk}: {chunk}{{{quote}b{quote}{chunk}: 1{chunk}}}{chunk}}}",
    ][place]
    try:
        found, end = read_answer(text)
    except Broken as broken:
        assert str(broken) in REASONS
    else:
        assert found == readings(text[:end])[0]


plain_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
plain_map = st.dictionaries(plain_text, st.floats(0, 1), min_size=1, max_size=3)


@given(
    st.dictionaries(plain_text, plain_map | plain_text, min_size=1, max_size=3),
    st.sampled_from([repr, json.dumps, lambda v: json.dumps(v, ensure_ascii=False, indent=2)]),
)
def test_every_plain_dictionary_is_read(value, dump):
    text = dump(value)
    found, end = read_answer(text)
    assert end == len(text)
    assert {key: dict(item) if isinstance(item, list) else item for key, item in found} == value


@settings(max_examples=400)
@given(st.lists(chunks, max_size=8).map("".join), st.sampled_from("'\""))
def test_every_text_in_one_pair_of_quotes_is_read(chunk, quote):
    # All that Python reads as one text, without a line end in it, and all that JSON reads.
    text = f"{{{quote}a{quote}: {quote}{chunk}{quote}}}"
    wanted = [read for read in readings(text) if isinstance(read, list) and isinstance(read[0][1], str)]
    alone = "\n" not in chunk and "\r" not in chunk and quote not in chunk.replace("\\" + quote, "")
    if wanted and alone and "\\\\" not in chunk and chunk[-1:] != "\\":
        assert read_answer(text)[0] == wanted[0]


def test_both_languages_differ_where_they_differ():
    assert read_answer(r'{"a": "\/"}')[0] == [("a", "/")]
    assert read_answer(r"{'a': '\/'}")[0] == [("a", "\\/")]
    assert read_answer(r'{"a": "\ud83d\ude00"}')[0] == [("a", "\U0001f600")]
    assert read_answer(r"{'a': '\ud83d\ude00'}")[0] == [("a", "\ud83d\ude00")]
    assert read_answer(r'{"a": "\/", "b": "\x41"}')[0] == [("a", "\\/"), ("b", "A")]  # Python as a whole
