"""A user's own files: what is read of them, and the one line that what cannot be used gets."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping

import pytest

from data_prep.corpora.errors import DataError
from data_prep.own_dialogues import read
from data_prep.own_dialogues.columns import choose_columns, read_columns
from data_prep.own_dialogues.read import look_through, read_dialogues
from rewards.labels import LABELS

MELD = LABELS["meld"]


@pytest.fixture
def said(tmp_path):
    """What is read of a file: (dialogue, utterance, speaker, text, label, line) of every utterance."""

    def read_all(name: str, content: str | bytes, columns: Mapping[str, str] = {}, labels=MELD):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found = look_through(path, labels, columns)
        rows = [
            (own.dialogue.dialogue_id, u.utterance_id, u.speaker, u.text, u.label, line)
            for own in read_dialogues(path, labels, columns, found.together)
            for u, line in zip(own.dialogue.utterances, own.lines, strict=True)
        ]
        assert (found.utterances, found.dialogues) == (len(rows), len({row[0] for row in rows}))
        return rows

    return read_all


ANN_AND_BOB = [
    ("a", "0", "Ann", "I won, really!", None, 2),
    ("a", "1", "Bob", "Good.", None, 3),
    ("b", "0", "Ann", "And you?", None, 4),
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", 'text,speaker,dialogue_id\n"I won, really!",Ann,a\nGood.,Bob,a\nAnd you?,Ann,b\n'),
        (
            "x.csv",
            "Dialogue ID;SPEAKER;Utterance\r\na;Ann;I won, really!\r\na;Bob;Good.\r\nb;Ann;And you?\r\n",
        ),
        ("x.tsv", "sentence\tspeaker\tdialog-id\nI won, really!\tAnn\ta\nGood.\tBob\ta\nAnd you?\tAnn\tb\n"),
        (
            "x.jsonl",
            "\n"
            + "".join(
                json.dumps({"more": [1], "text": text, "speaker": speaker, "dialogue_id": dialogue}) + "\n"
                for dialogue, _, speaker, text, _, _ in ANN_AND_BOB
            ),
        ),
    ],
)
def test_the_same_dialogues_in_every_form(said, name, content):
    assert said(name, content) == ANN_AND_BOB
    for marks in (1, 2):
        assert said(name, codecs.BOM_UTF8 * marks + content.encode()) == ANN_AND_BOB


def test_text_lines_have_names_or_none_and_empty_lines_between_dialogues(said):
    named = "Ann: I won: really!\nBob:  Good.\n\n\nAnn: And you?\n"
    assert said("x.txt", named) == [
        ("1", "0", "Ann", "I won: really!", None, 1),
        ("1", "1", "Bob", "Good.", None, 2),
        ("2", "0", "Ann", "And you?", None, 5),
    ]
    # The first line has no name: "well" would be one only in a file where it has.
    assert [row[2:4] for row in said("x.txt", "I won!\nWell: good.\n")] == [
        (read.SOMEBODY, "I won!"),
        (read.SOMEBODY, "Well: good."),
    ]
    assert [row[3] for row in said("x.txt", "Well: good.\nI won!\n", {"speaker": ""})] == [
        "Well: good.",
        "I won!",
    ]
    with pytest.raises(DataError, match='line 2: no `Name: ` .* FIELDS="speaker="'):
        said("x.txt", "Ann: I won!\nGood.\n")


def test_a_name_may_end_with_a_colon_of_full_width(said):
    rows = said("x.txt", "Ann\uff1aI won: really!\nBob\uff1a Go\x85od\n")
    assert [row[2:4] for row in rows] == [("Ann", "I won: really!"), ("Bob", "Go\u2026od")]


def test_only_the_text_is_needed_and_somebody_speaks(said):
    assert said("x.csv", "text\nHi.\nHello.\n") == [
        ("1", "0", read.SOMEBODY, "Hi.", None, 2),
        ("1", "1", read.SOMEBODY, "Hello.", None, 3),
    ]


def test_a_dialogue_of_one_speaker_and_one_utterance_is_one(said):
    assert len(said("x.csv", "text,speaker,dialogue_id\nHi.,Ann,1\nHello.,Ann,2\n")) == 2


def test_numbered_utterances_are_in_the_order_of_their_numbers(said):
    rows = said("x.csv", "text,turn_id\nthird,10\nfirst,1\nsecond,9\n")
    assert [(row[3], row[5]) for row in rows] == [("first", 3), ("second", 4), ("third", 2)]
    rows = said("x.csv", "text,turn_id\nthird,u10\nfirst,u1\n")
    assert [row[3] for row in rows] == ["third", "first"]


def test_dialogues_whose_rows_are_mixed_are_put_together(said, monkeypatch):
    content = "text,dialogue_id\none,a\ntwo,b\nthree,a\n"
    assert [(row[0], row[3]) for row in said("x.csv", content)] == [
        ("a", "one"),
        ("a", "three"),
        ("b", "two"),
    ]
    monkeypatch.setattr(read, "HELD", 2)
    with pytest.raises(DataError, match="line 4: a dialogue goes on .* Remedy: sort the file by dialogue"):
        said("x.csv", content)


def test_labels_are_those_of_the_list_whatever_their_case(said):
    rows = said("x.csv", "text,Emotion\nHi.,JOY\nHello.,\n")
    assert [row[4] for row in rows] == ["joy", None]
    rows = said("x.csv", "text,label\nHi.,calm\n", labels=("Calm", "tense"))
    assert rows[0][4] == "Calm"


def test_columns_by_what_the_user_says(said):
    content = "Message,Who,text,label\nHi.,Ann,no,3\n"
    rows = said("x.csv", content, read_columns("text=Message, speaker=Who,label="))
    assert rows == [("1", "0", "Ann", "Hi.", None, 2)]


def test_what_is_told_about_columns(tmp_path):
    path = tmp_path / "x.csv"
    assert choose_columns(path, 1, ["Utterance", "Utterance_ID", "Sentiment"], {}) == {
        "text": "Utterance",
        "utterance": "Utterance_ID",
    }
    for typed in ("text", "who=Ann", "text=a,text=b", "text="):
        with pytest.raises(ValueError, match="FIELDS="):
            read_columns(typed)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.csv", "words,speaker\nHi.,Ann\n", r"x.csv, line 1: no column for .*'words', 'speaker'.*FIELDS"),
        ("x.csv", "text,sentence\nHi.,Hi.\n", "line 1: more than one column for text: text, sentence"),
        ("x.csv", "text,text\nHi.,Hi.\n", "line 1: 2 columns are named 'text'. Remedy: rename"),
        ("x.csv", "text,speaker\nHi.,Ann\n , \nHi.\n", "line 4: 1 fields where the header has 2"),
        ("x.csv", 'text,speaker\n"Hi.,Ann\n', "broken CSV"),
        ("x.csv", f"\n{'a' * 200_000}\n", "line 2: no header of a CSV file .field larger than field limit"),
        ("x.csv", f"text\n{'a' * 200_000}\n", "line 2: broken CSV .field larger than field limit"),
        ("x.csv", "text,speaker\nHi.,Ann\n ,Bob\n", "line 3: empty text. Remedy: fill it in, or remove"),
        ("x.csv", "text,speaker\nHi.,Ann\n\u200b\u2800,Bob\n", "line 3: empty text"),
        ("x.csv", "text,speaker\nHi.,\n", "line 2: empty speaker"),
        ("x.csv", "text,dialogue_id\nHi.,\n", "line 2: empty dialogue id"),
        ("x.csv", "text,utterance_id\nHi.,1\nHo.,01\n", "line 3: utterance id 1 of .* first on line 2"),
        ("x.csv", "text,label\nHi.,bored\n", "line 2: label 'bored' is not among neutral.*LABELS=.*FIELDS="),
        ("x.csv", "text,speaker\n", "no utterance is in it"),
        ("x.txt", "\n \n", "no utterance is in it"),
        ("x.csv", "Hi there.,Ann\n", "there are 'Hi there.', 'Ann'.*where this line is no header, write one"),
        ("x.csv", "text\nHi.\n".encode("utf-32"), "UTF-32.* Remedy: .*iconv -f utf-32 -t"),
        ("x.csv", "", "the file is empty"),
        ("x.csv", "text\nHi\ufffd\n", "line 2: unreadable character U\\+FFFD"),
        ("x.csv", "text\ncaf\u00e9\n".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8.*iconv -f latin1"),
        ("x.csv", "text\nHi.\n".encode("utf-16"), "line 1: this is UTF-16.* Remedy: .*iconv -f utf-16"),
        ("x.csv", "text\nHi.\n".encode("utf-16-le"), "this is UTF-16.*iconv -f utf-16le"),
        ("x.csv", "text\nHi.\n".encode("utf-16-be"), "this is UTF-16.*iconv -f utf-16be"),
        ("x.csv", "text\nHi.\nHel\0lo.\n", r"line 3: unreadable character U\+0000"),
        ("x.csv", "text\rHi.\r", r"line ends are carriage returns alone. Remedy: .*tr '\\r' '\\n'"),
        ("x.jsonl", '{"text": "Hi."}\r{"text": "Ho."}\r', "line ends are carriage returns alone"),
        ("x.txt", "Ann: Hi.\rBob: Ho.\r", "line ends are carriage returns alone"),
        ("x.txt", "Ann: Hi.\nBob: Ho.\rAnn: I see.\n", "line 2: a line end of another kind"),
        *(("x.txt", f"Ann: Hi.{end}Ho.\n", "line 1: a line end of another kind") for end in "\v\f\u2028"),
        ("x.csv", "text\n" + "".join(f"{i}\n" for i in range(2_001)), "line 2002: a dialogue of more"),
        ("x.csv", "text,speaker\n" + "".join(f"Hi.,{i}\n" for i in range(201)), "line 202: .* or 200 people"),
        ("x.jsonl", '{"text": "Hi."}\n{"text": \n', "line 2: no JSON .* Remedy: write one object a line"),
        ("x.jsonl", '["Hi."]\n', "line 1: no JSON object"),
        ("x.jsonl", "[" * 100_000 + "\n", "line 1: no JSON"),
        ("x.jsonl", '{"text": "Hi."}\n{"text": 1.5}\n', "line 2: 'text' is neither text nor a whole number"),
        ("x.jsonl", '{"text": "Hi."}\n{"texts": "Hi."}\n', "line 2: empty text"),
        ("x.jsonl", '{"text": "Hi.", "dialogue_id": true}\n', "line 1: 'dialogue_id' is neither"),
        ("x.jsonl", "\n", "no line with an object"),
        ("x.jsonl", '{"text": "Hi.", "text": "Ho."}\n', "line 1: no JSON .the key 'text' stands twice"),
        ("x.jsonl", '{"text": "Hi."}\n{"text": "Ho.", "Speaker": "A"}\n', "line 2: 'Speaker' stands on"),
        ("x.jsonl", '{"text": "Hi \\ud83d"}\n', r"line 1: unreadable character U\+D83D"),
        ("x.csv", b"\x1f\x8b\x08\x00", "this is a gzip file. Remedy: unpack it"),
        ("x.txt", b"PK\x03\x04", "this is a zip file or a spreadsheet"),
        ("x.txt", "\n\n", "no utterance"),
        ("x.xlsx", "PK", "ends in '.xlsx' is not read"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_with_file_line_and_remedy(said, name, content, told):
    with pytest.raises(DataError, match=told) as caught:
        said(name, content)
    assert "\n" not in str(caught.value) and "Remedy: " in str(caught.value)


def test_no_file_no_folder_no_column_of_that_name(tmp_path, said):
    for path in (tmp_path / "none.csv", tmp_path / "folder.csv"):
        if path.stem == "folder":
            path.mkdir()
        with pytest.raises(DataError, match="no such file|this is no file"):
            look_through(path, MELD, {})
    with pytest.raises(DataError, match="no column 'Words' .*; there are 'text'"):
        said("x.csv", "text\nHi.\n", {"text": "Words"})


def test_a_later_column_that_is_left_out_is_not_missed(said):
    content = '{"text": "Hi."}\n{"text": "Ho.", "speaker": "A", "mood": 1}\n'
    assert [row[2] for row in said("x.jsonl", content, {"speaker": ""})] == [read.SOMEBODY] * 2


def test_text_and_names_are_cleaned_as_those_of_a_corpus(said):
    rows = said("x.csv", "text,speaker\ncafÃ© time,Zoe\u0301\nH\u200bi.,Zo\u00e9\n")
    assert [(row[2], row[3]) for row in rows] == [("Zoé", "café time"), ("Zoé", "Hi.")]
