"""MELD and EmoryNLP, whose files are CSV: what is read of them, and what is refused at which line."""

from __future__ import annotations

import csv
import pickle
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpora import emorynlp, meld
from data_prep.corpora.dialogue import DataError, Utterance, text_lines
from data_prep.corpora.text import _WRONGLY_READ
from rewards.labels import LABELS
from rewards.parse import has_visible
from tests.unit.data_prep.corpora.corpus_files import (
    EMORY_HEADER,
    EMORY_ROW,
    MELD_HEADER,
    MELD_ROW,
    assert_error,
    write,
)


def read_meld(tmp_path: Path, content: str | bytes) -> list:
    return list(meld.read_split(write(tmp_path / "train_sent_emo.csv", content), "train"))


def read_emory(tmp_path: Path, content: str | bytes) -> list:
    return list(emorynlp.read_split(write(tmp_path / "emorynlp_train_final.csv", content), "train"))


def test_meld_groups_sorts_and_keeps_gaps(tmp_path):
    rows = (
        "1,Second,Bob,SADNESS,negative,7,3\n"
        "2,Other,Cyd,neutral,neutral,8,1\n"
        '3,"  First,\t with\u00a0 spaces ",Ada, joy ,positive,7,0\n'
    )
    first, second = read_meld(tmp_path, MELD_HEADER + rows)
    assert (first.corpus, first.split, first.dialogue_id) == ("meld", "train", "train_7")
    assert first.utterances == (
        Utterance("0", "Ada", "First, with spaces", "joy"),
        Utterance("3", "Bob", "Second", "sadness"),
    )
    assert (second.dialogue_id, len(second.utterances)) == ("train_8", 1)


def test_meld_takes_any_column_order_extra_columns_bom_crlf_and_blank_lines(tmp_path):
    content = "\ufeffUtterance_ID,X,Emotion,Dialogue_ID,Speaker,Utterance\r\n\r\n4,,Joy,2,Ada,Hi\r\n\r\n"
    (dialogue,) = read_meld(tmp_path, content)
    assert dialogue.utterances == (Utterance("4", "Ada", "Hi", "joy"),)


def test_csv_quoted_newline_is_a_space_and_the_line_is_the_files(tmp_path):
    content = MELD_HEADER + '1,"one\ntwo",Ada,joy,positive,0,0\n'
    assert read_meld(tmp_path, content)[0].utterances[0].text == "one two"
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, content + "2,Hi,Ada,happpy,positive,0,1\n")
    assert_error(caught.value, "train_sent_emo.csv", 4, "unknown emotion 'happpy'; expected one of neutral, ")


def test_cp1252_leftovers_become_the_characters_meant(tmp_path):
    (dialogue,) = read_meld(tmp_path, MELD_HEADER + "1,It\u0092s\u0085 fine,Ada,joy,positive,0,0\n")
    assert dialogue.utterances[0].text == "It\u2019s\u2026 fine"


def test_emorynlp_joins_speakers_and_keys_scenes_by_episode(tmp_path):
    rows = (
        "Late,['Ada B'],mad,1,9,1,1\n"
        "Elsewhere,['Cyd'],Sad,1,1,1,2\n"
        'Early,"[\'Ada B\', ""Bob O\'C""]",POWERFUL,1,4,1,1\n'
    )
    first, second = read_emory(tmp_path, EMORY_HEADER + rows)
    assert (first.corpus, first.dialogue_id, second.dialogue_id) == ("emorynlp", "train_1_1_1", "train_1_2_1")
    assert first.utterances == (
        Utterance("4", "Ada B and Bob O'C", "Early", "Powerful"),
        Utterance("9", "Ada B", "Late", "Mad"),
    )


SHARED_ERRORS = [
    (b"", None, "empty"),
    (b"\n\n", None, "empty"),
    (b"{header}", None, "no utterance"),
    (b"a,b\n1,2\n", 1, "missing column(s) Utterance"),
    (b"Utterance;Speaker;Emotion\nHi;Ada;joy\n", 1, "in any order, with commas between"),
    (b"\xff\xfea\x00", 1, "this is UTF-16"),
    (b"\xff{header}", 1, "0xff is not UTF-8"),
    (b"{header}{row}\xe9{row}", 3, "0xe9 is not UTF-8"),
    (b"{header}{row}a,b\n", 3, "2 fields where"),
    (b"{header}{row},\n{row}", 2, None),
    (b"{header}{row}{row}", 3, "duplicate Utterance_ID"),
    (b'{header}"never closed\n{row}', 3, "broken CSV"),
    (b'{header}"a"b,{row}', 2, "broken CSV"),
]


@pytest.mark.parametrize(("content", "line", "problem"), SHARED_ERRORS)
@pytest.mark.parametrize(
    ("read", "name", "header", "row"),
    [
        (read_meld, "train_sent_emo.csv", MELD_HEADER, MELD_ROW),
        (read_emory, "emorynlp_train_final.csv", EMORY_HEADER, EMORY_ROW),
    ],
)
def test_broken_csv_names_file_and_line(tmp_path, content, line, problem, read, name, header, row):
    content = content.replace(b"{row},\n", row.rstrip("\n").encode() + b",x\n")
    content = content.replace(b"{header}", header.encode()).replace(b"{row}", row.encode())
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert_error(caught.value, name, line, problem or "fields where the header has")
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1,   ,Ada,joy,positive,0,0\n", "empty utterance"),
        ("1,Hi, ,joy,positive,0,0\n", "empty speaker"),
        ("1,Hi,Ada,,positive,0,0\n", "unknown emotion ''"),
        ("1,Hi,Ada,Joyful,positive,0,0\n", "unknown emotion 'Joyful'"),
        ("1,Hi,Ada,joy,positive,0.0,0\n", "Dialogue_ID '0.0' is not a whole number"),
        ("1,Hi,Ada,joy,positive,0,\n", "Utterance_ID '' is not a whole number"),
        ("1,Hi,Ada,joy,positive,0,-1\n", "Utterance_ID '-1' is not a whole number"),
        ("1,Hi,Ada,joy,positive,0,1_0\n", "Utterance_ID '1_0' is not a whole number"),
        ("1,Hi\ufffd,Ada,joy,positive,0,0\n", "unreadable character U+FFFD"),
        ("1,Hi\x07,Ada,joy,positive,0,0\n", "unreadable character U+0007"),
    ],
)
def test_meld_bad_cells(tmp_path, row, problem):
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, MELD_HEADER + "1,Hi,Ada,joy,positive,5,0\n" + row)
    assert_error(caught.value, "train_sent_emo.csv", 3, problem)


def test_a_duplicate_far_from_its_twin_names_both_lines(tmp_path):
    rows = "1,Hi,Ada,joy,positive,0,0\n2,Ho,Bob,joy,positive,1,0\n3,Hi,Ada,joy,positive,0,0\n"
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, MELD_HEADER + rows)
    assert_error(
        caught.value, "train_sent_emo.csv", 4, "duplicate Utterance_ID 0 in Dialogue_ID 0, first on line 2"
    )


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ("  ,['Ada'],Sad", "empty utterance"),
        ("Hi,['Ada'],joy", "unknown emotion 'joy'; expected one of Joyful, "),
    ],
)
def test_emorynlp_bad_cells(tmp_path, cells, problem):
    with pytest.raises(DataError) as caught:
        read_emory(tmp_path, EMORY_HEADER + EMORY_ROW + f"{cells},1,2,1,1\n")
    assert_error(caught.value, "emorynlp_train_final.csv", 3, problem)


@pytest.mark.parametrize("column", ["Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID"])
def test_each_missing_column_is_named(tmp_path, column):
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, MELD_HEADER.replace(column, "X", 1) + MELD_ROW)
    assert_error(caught.value, "train_sent_emo.csv", 1, f"missing column(s) {column}")


@pytest.mark.parametrize(
    "cell",
    ["", "Ada B", "[]", "['']", "['Ada', ' ']", "[1]", "('Ada',)", "'Ada'", "['Ada'", "[__import__('os')]"],
)
def test_emorynlp_bad_speaker_cells(tmp_path, cell):
    with pytest.raises(DataError) as caught:
        read_emory(tmp_path, EMORY_HEADER + f'Hi,"{cell}",Sad,1,1,1,1\n')
    assert_error(caught.value, "emorynlp_train_final.csv", 2, "is no list of names")


@pytest.mark.parametrize("ids", ["x,1,1,1", "1,x,1,1", "1,1,x,1", "1,1,1,x"])
def test_emorynlp_bad_ids(tmp_path, ids):
    with pytest.raises(DataError) as caught:
        read_emory(tmp_path, EMORY_HEADER + f"Hi,['Ada'],Sad,{ids}\n")
    assert_error(caught.value, "emorynlp_train_final.csv", 2, "'x' is not a whole number")


def test_column_named_twice_is_an_error(tmp_path):
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, MELD_HEADER.replace("Sr No.", "Emotion") + MELD_ROW)
    assert_error(caught.value, "train_sent_emo.csv", 1, "column(s) Emotion named twice")


def test_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        list(meld.read_split(tmp_path / "none.csv", "train"))


def test_data_error_survives_pickling():
    error = DataError("a.csv", 3, "a problem", "a remedy")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "a.csv, line 3: a problem. Remedy: a remedy."
    assert (copy.path, copy.line) == ("a.csv", 3)


# Without what is invisible, what may be UTF-8 decoded twice, and accents that may join the letter before.
texts = st.text(
    st.characters(
        exclude_categories=("Cs", "Cc", "Cf", "Co", "Cn", "Mn"), exclude_characters="\ufffdÂÃâðï\u3164"
    ),
    min_size=1,
).filter(lambda text: has_visible(text) and not any(known.looks.search(text) for known in _WRONGLY_READ))


turns = st.tuples(texts, texts, st.sampled_from(LABELS["meld"]))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 99)), turns, min_size=1),
    order=st.permutations(["Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID"]),
)
def test_meld_reads_back_whatever_was_written(tmp_path_factory, rows, order):
    path = tmp_path_factory.mktemp("meld") / "train_sent_emo.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, order)
        writer.writeheader()
        for (dialogue, number), (text, speaker, label) in rows.items():
            cells = (text, speaker, label, dialogue, number)
            names = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
            writer.writerow(dict(zip(names, cells, strict=True)))
    read = [
        ((dialogue.dialogue_id, int(turn.utterance_id)), (turn.text, turn.speaker, turn.label))
        for dialogue in meld.read_split(path, "train")
        for turn in dialogue.utterances
    ]
    assert dict(read) == {
        (f"train_{dialogue}", number): (" ".join(text.split()), " ".join(speaker.split()), label)
        for (dialogue, number), (text, speaker, label) in rows.items()
    }
    assert len(read) == len(rows)
    keys = [key for key, _ in read]
    assert all(a[1] < b[1] for a, b in zip(keys, keys[1:], strict=False) if a[0] == b[0])


@pytest.mark.parametrize(
    ("encoding", "begin"),
    [(name, b"") for name in ("utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be")]
    + [("utf-16be", b"\xfe\xff")],
)
def test_utf_16_is_told_and_the_remedy_makes_the_file_readable(tmp_path, encoding, begin):
    content = MELD_HEADER + "1,Ça va,Ada,joy,positive,0,0\n"
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, begin + content.encode(encoding))
    assert_error(caught.value, "train_sent_emo.csv", 1, "this is UTF-16 or UTF-32, or no text at all")
    asked = re.search(r"iconv -f (\S+) -t utf-8 FILE > NEW_FILE\.$", str(caught.value))
    assert asked
    encoded = begin + content.encode(encoding)
    done = subprocess.run(["iconv", "-f", asked[1], "-t", "utf-8"], input=encoded, capture_output=True)
    assert done.returncode == 0
    assert read_meld(tmp_path, done.stdout)[0].utterances[0].text == "Ça va"


def test_utf_16_whose_first_line_has_no_ascii_is_told(tmp_path):
    path = write(tmp_path / "x.txt", "Ж\nЖ\n".encode("utf-16le"))
    with pytest.raises(DataError, match=r"x\.txt, line 1: this is UTF-16.*iconv -f utf-16le"):
        list(text_lines(path))


@pytest.mark.parametrize(("before", "line"), [("", 1), (MELD_HEADER, 2), (MELD_HEADER + "1,Hi,Ada,joy,", 2)])
@pytest.mark.parametrize("zeros", [4, 512, 2_000_000])
def test_what_a_crash_left_of_a_file_is_not_called_utf_16(tmp_path, before, line, zeros):
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, before.encode() + b"\0" * zeros)
    assert caught.value.line == line and "UTF-16" not in str(caught.value)
    if not before.endswith(","):
        assert "zero bytes alone" in str(caught.value)


@pytest.mark.parametrize("rows", [1, 40_000])  # of more bytes than a line may have, too
def test_line_ends_of_carriage_returns_alone_are_told_with_a_remedy_that_works(tmp_path, rows):
    content = MELD_HEADER + "".join(f"1,Hi there,Ada,joy,positive,{n},0\n" for n in range(rows))
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, content.replace("\n", "\r"))
    assert_error(caught.value, "train_sent_emo.csv", None, "its line ends are carriage returns alone")
    asked = re.search(r"(tr .*) < FILE > NEW_FILE\.$", str(caught.value))
    assert asked
    mended = subprocess.run(
        shlex.split(asked[1]), input=content.replace("\n", "\r").encode(), capture_output=True, check=True
    ).stdout
    assert len(read_meld(tmp_path, mended)) == rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n", "\r", ""])
def test_a_file_of_one_line_is_one_whatever_its_end(tmp_path, end):
    path = write(tmp_path / "x.txt", f"one{end}".encode())
    assert [(number, line.strip()) for number, line in text_lines(path)] == [(1, "one")]
