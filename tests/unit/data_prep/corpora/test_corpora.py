"""The corpus readers, on small files of the tests' own; the real ones only if SELF_EMO_RAW_DIR names them."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpora import emorynlp, find_corpora, iemocap, meld, read_corpora
from data_prep.corpora.dialogue import DataError, Utterance
from data_prep.leakage import overlaps
from rewards.labels import LABELS
from rewards.parse import has_visible

MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
EMORY_HEADER = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode\n"
MELD_ROW = "1,Hello there,Ada,joy,positive,0,0\n"
EMORY_ROW = "Hello there,['Ada B'],Joyful,1,1,1,1\n"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read_meld(tmp_path: Path, content: str | bytes) -> list:
    return list(meld.read_split(write(tmp_path / "train_sent_emo.csv", content), "train"))


def read_emory(tmp_path: Path, content: str | bytes) -> list:
    return list(emorynlp.read_split(write(tmp_path / "emorynlp_train_final.csv", content), "train"))


def assert_error(error: DataError, name: str, line: int | None, problem: str) -> None:
    where = name if line is None else f"{name}, line {line}"
    assert f"{where}: " in str(error)
    assert problem in str(error)
    assert "Remedy: " in str(error)


# ---- CSV corpora ----


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
    (b"\xff\xfea\x00", 1, "0xff is not UTF-8"),
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
).filter(has_visible)
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


# ---- IEMOCAP ----

HEADING = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
RATERS = "C-E1:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t(a [bracketed] note)\n\n"


def summary(turn: str, code: str) -> str:
    return f"[1.0000 - 2.0000]\t{turn}\t{code}\t[2.5000, 2.5000, 2.5000]\n{RATERS}"


def write_dialogue(root: Path, name: str, transcript: str | bytes, evaluation: str | bytes) -> None:
    folder = root / f"Session{int(name[3:5])}" / "dialog"
    write(folder / "transcriptions" / f"{name}.txt", transcript)
    write(folder / "EmoEvaluation" / f"{name}.txt", evaluation)


def simple_dialogue(root: Path, name: str) -> None:
    turn = f"{name}_F000"
    write_dialogue(root, name, f"{turn} [001.0000-002.0000]: Hello.\n", HEADING + summary(turn, "neu"))


def test_the_evaluators_votes(tmp_path):
    raters = (
        "C-E2:\tSadness; Anger;\t()\nC-E3:\tSadness;\t(a note)\nC-E4:\tOther;\t(x)\nC-F1:\tExcited;\t()\n"
        "A-E3:\tval 3; act 2; dom  2;\t()\n\n"
    )
    name, turn = "Ses01F_impro01", "Ses01F_impro01_F000"
    line = f"[1.0000 - 2.0000]\t{turn}\tsad\t[2.5000, 2.5000, 2.5000]\n{raters}"
    write_dialogue(tmp_path, name, f"{turn} [001.0000-002.0000]: Hello.\n", HEADING + line)
    (utterance,) = read_one(tmp_path)
    # The actors' own evaluation (C-F1) and a category that is none of the six count for nobody.
    assert utterance.label == "sad" and utterance.votes == {"sad": 2, "angry": 1}


def read_one(root: Path, name: str = "Ses01F_impro01") -> tuple[Utterance, ...]:
    (dialogue,) = iemocap.read_release(root, {"train": [name]})
    return dialogue.utterances


def test_iemocap_labels_are_the_corpus_labels():
    assert set(iemocap.CODES.values()) == set(LABELS["iemocap"])


def test_iemocap_reads_a_release_with_odd_lines(tmp_path):
    name = "Ses05M_script01_1b"
    transcript = (
        f"{name}_F000 [006.2901-008.2357]: Good  morning.\n"
        f"{name}_MXX0 [007.0000-007.5000]: Mhm.\n"
        "\n"
        f"{name}_M001 [014.5000-015.0000]: Later.\n"
        "M: No time here.\n"
        f"{name}_F002: [LAUGHTER] nor here.\n"
        f"{name}_M000 [010.0000-013.0000]: [SIGH] Earlier: yes.\n"
        f"{name}_F001 [013.5000-014.0000]: Untold.\n"
        f"{name}_FXX1\n"
    )
    evaluation = HEADING + "".join(
        summary(f"{name}_{turn}", code)
        for turn, code in [("F000", "neu"), ("F001", "xxx"), ("M000", "exc"), ("MXX0", "hap")]
    )
    write_dialogue(tmp_path, name, transcript, evaluation)
    write(tmp_path / "Session5/dialog/EmoEvaluation/._stray.txt", b"\x00\x05")
    (dialogue,) = iemocap.read_release(tmp_path, {"test": [name]})
    assert (dialogue.corpus, dialogue.split, dialogue.dialogue_id) == ("iemocap", "test", name)
    heard = {"neutral": 1}  # by the evaluator of `RATERS`
    assert dialogue.utterances == (
        Utterance(f"{name}_F000", "Female speaker", "Good morning.", "neutral", heard),
        Utterance(f"{name}_M000", "Male speaker", "[SIGH] Earlier: yes.", "excited", heard),
        Utterance(f"{name}_F001", "Female speaker", "Untold.", None, heard),
        Utterance(f"{name}_M001", "Male speaker", "Later.", None),
    )


@pytest.mark.parametrize(
    "code", ["hap", "sad", "neu", "ang", "exc", "fru", "xxx", "oth", "fea", "sur", "dis"]
)
def test_iemocap_codes(tmp_path, code):
    turn = "Ses01F_impro01_F000"
    write_dialogue(tmp_path, "Ses01F_impro01", f"{turn} [1.0-2.0]: Hello.\n", summary(turn, code))
    assert read_one(tmp_path)[0].label == iemocap.CODES.get(code)


def test_iemocap_falls_back_to_one_byte_text(tmp_path):
    turn = "Ses01F_impro01_F000"
    evaluation = summary(turn, "sad").encode() + b"C-E2:\tSadness;\t(d\xe9\xe7u)\n"
    write_dialogue(
        tmp_path, "Ses01F_impro01", turn.encode() + b" [1.0-2.0]: It\x92s caf\xe9.\r\n", evaluation
    )
    assert read_one(tmp_path)[0].text == "It\u2019s caf\u00e9."


GOOD = "Ses01F_impro01_F000 [1.0-2.0]: Hello.\n"


@pytest.mark.parametrize(
    ("transcript", "line", "problem"),
    [
        ("", None, "no timed utterance"),
        ("M: Only this.\n", None, "no timed utterance"),
        (GOOD + "some stray words\n", 2, "unreadable line 'some stray words'"),
        (GOOD + "\nSes01F_impro01_F001 [1.0-]: Hi.\n", 3, "unreadable line"),
        (GOOD + "Ses01F_impro01_F001 [2.0-3.0] Hi.\n", 2, "unreadable line"),
        (GOOD + "Ses01F_impro01_F001\n", 2, "unreadable line"),
        (GOOD + "Ses01F_impro01_F001 [2.0-3.0]:  \n", 2, "empty utterance"),
        (GOOD + GOOD, 2, "duplicate utterance id"),
        (GOOD + "Ses01F_impro02_F001 [2.0-3.0]: Hi.\n", 2, "is no utterance id of dialogue"),
        (GOOD + "Ses01F_impro01_G001 [2.0-3.0]: Hi.\n", 2, "is no utterance id of dialogue"),
        (GOOD.encode() + b"Ses01F_impro01_F001 [2.0-3.0]: Hi\x81.\n", 2, "unreadable character U+0081"),
    ],
)
def test_iemocap_bad_transcripts(tmp_path, transcript, line, problem):
    write_dialogue(tmp_path, "Ses01F_impro01", transcript, summary("Ses01F_impro01_F000", "xxx"))
    with pytest.raises(DataError) as caught:
        read_one(tmp_path)
    assert_error(caught.value, "transcriptions/Ses01F_impro01.txt", line, problem)


@pytest.mark.parametrize(
    ("evaluation", "line", "problem"),
    [
        ("", None, "no summary line"),
        (HEADING, None, "no summary line"),
        (HEADING + "[1.0 - 2.0]\tSes01F_impro01_F000\n", 3, "unreadable summary line"),
        (HEADING + "[1.0 - 2.0]\tSes01F_impro01_F000\tneutral\t[2, 2, 2]\n", 3, "unreadable summary line"),
        (HEADING + "[1.0 - 2.0]\tSes01F_impro02_F000\tneu\t[2, 2, 2]\n", 3, "is no utterance id of dialogue"),
        ("[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t[2, 2, 2]\n" * 2, 2, "duplicate utterance id"),
        (summary("Ses01F_impro01_F009", "ang"), 1, "has emotion 'ang' but no timed line"),
    ],
)
def test_iemocap_bad_evaluations(tmp_path, evaluation, line, problem):
    write_dialogue(tmp_path, "Ses01F_impro01", GOOD, evaluation)
    with pytest.raises(DataError) as caught:
        read_one(tmp_path)
    assert_error(caught.value, "EmoEvaluation/Ses01F_impro01.txt", line, problem)


def test_iemocap_missing_files_are_errors_at_the_call(tmp_path):
    simple_dialogue(tmp_path, "Ses01F_impro01")
    with pytest.raises(
        DataError, match="names dialogue 'Ses01F_impro09', but there is no .*Ses01F_impro09.txt"
    ):
        iemocap.read_release(tmp_path, {"dev": ["Ses01F_impro01", "Ses01F_impro09"]})
    with pytest.raises(DataError, match=r"Session3: no such session, but split 'dev' names 'Ses03M_impro01'"):
        iemocap.read_release(tmp_path, {"dev": ["Ses03M_impro01"]})
    with pytest.raises(DataError, match=r"split.json: split 'dev': '../x' is no dialogue id"):
        iemocap.read_release(tmp_path, {"dev": ["../x"]}, tmp_path / "split.json")
    with pytest.raises(DataError, match="'Ses01F_impro01' stands in train and again in test"):
        iemocap.read_release(tmp_path, {"train": ["Ses01F_impro01"], "test": ["Ses01F_impro01"]})
    (tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt").unlink()
    with pytest.raises(DataError, match=r"EmoEvaluation/Ses01F_impro01.txt: no evaluation file"):
        iemocap.read_release(tmp_path, {"dev": ["Ses01F_impro01"]})


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ('{"train": [],\n oops}', 2, "not JSON"),
        ("", 1, "not JSON"),
        (b'{"train": ["\xff"]}', 1, "0xff is not UTF-8"),
        ("[]", None, "not an object with exactly the keys train, dev, test"),
        ('{"train": [], "dev": []}', None, "not an object with exactly the keys"),
        ('{"train": [], "dev": "Ses", "test": []}', None, "split 'dev' is no list"),
        ('{"train": ["a"], "dev": [], "test": ["a"]}', None, "'a' stands in train and again in test"),
    ],
)
def test_iemocap_bad_split_files(tmp_path, content, line, problem):
    with pytest.raises(DataError) as caught:
        iemocap.load_splits(write(tmp_path / "iemocap_split.json", content))
    assert_error(caught.value, "iemocap_split.json", line, problem)


# ---- all corpora ----


def write_meld(raw_dir: Path) -> None:
    for split in ("train", "dev", "test"):
        write(raw_dir / f"meld/{split}_sent_emo.csv", MELD_HEADER + MELD_ROW)


def write_emory(raw_dir: Path) -> None:
    for split in ("train", "dev", "test"):
        write(raw_dir / f"emorynlp/emorynlp_{split}_final.csv", EMORY_HEADER + EMORY_ROW)


def write_iemocap(raw_dir: Path, split_file: str) -> None:
    names = {
        "test": ["Ses05F_impro01"],
        "dev": ["Ses02M_impro01"],
        "train": ["Ses01F_impro02", "Ses01F_impro01"],
    }
    for name in sum(names.values(), []):
        simple_dialogue(raw_dir / "iemocap", name)
    write(raw_dir / split_file, json.dumps(names))


@pytest.mark.parametrize("split_file", ["iemocap_split.json", "iemocap/iemocap_split.json"])
def test_all_corpora_in_order(tmp_path, split_file):
    write_meld(tmp_path)
    write_emory(tmp_path)
    write_iemocap(tmp_path, split_file)
    assert list(find_corpora(tmp_path)) == list(LABELS)
    assert [(d.corpus, d.split, d.dialogue_id) for d in read_corpora(tmp_path)] == [
        ("meld", "train", "train_0"),
        ("meld", "dev", "dev_0"),
        ("meld", "test", "test_0"),
        ("iemocap", "train", "Ses01F_impro02"),
        ("iemocap", "train", "Ses01F_impro01"),
        ("iemocap", "dev", "Ses02M_impro01"),
        ("iemocap", "test", "Ses05F_impro01"),
        ("emorynlp", "train", "train_1_1_1"),
        ("emorynlp", "dev", "dev_1_1_1"),
        ("emorynlp", "test", "test_1_1_1"),
    ]
    assert {d.corpus for d in read_corpora(str(tmp_path), ["emorynlp"])} == {"emorynlp"}


def test_a_split_file_alone_is_no_iemocap(tmp_path):
    write_meld(tmp_path)
    write(tmp_path / "iemocap_split.json", "{}")
    assert list(find_corpora(tmp_path)) == ["meld"]


def test_the_usual_split_is_there_and_a_file_takes_its_place(tmp_path):
    usual = iemocap.load_splits(Path(iemocap.__file__).with_name("iemocap_split.json"))
    dev = {
        "Ses01M_impro01", "Ses01M_script03_1", "Ses02F_impro02", "Ses02F_impro07", "Ses02M_script01_2",
        "Ses03F_impro01", "Ses03M_impro02", "Ses03M_impro08a", "Ses03M_script02_2", "Ses03M_script03_2",
        "Ses04F_impro07", "Ses04F_script02_1",
    }  # fmt: skip
    assert {split: len(ids) for split, ids in usual.items()} == {"train": 108, "dev": 12, "test": 31}
    assert set(usual["dev"]) == dev
    assert all(name.startswith("Ses05") == (split == "test") for split in usual for name in usual[split])
    for name in sum(usual.values(), []):
        simple_dialogue(tmp_path / "iemocap", name)
    found = [(d.split, d.dialogue_id) for d in read_corpora(tmp_path, ["iemocap"])]
    assert found == [(split, name) for split in usual for name in usual[split]]
    own = {"train": ["Ses01F_impro02"], "dev": ["Ses01F_impro01"], "test": []}
    write(tmp_path / "iemocap_split.json", json.dumps(own))
    assert [d.split for d in read_corpora(tmp_path, ["iemocap"])] == ["train", "dev"]


def test_an_incomplete_or_empty_iemocap_names_the_remedy_unless_left_out(tmp_path):
    write_meld(tmp_path)
    simple_dialogue(tmp_path / "iemocap", "Ses01F_impro01")
    with pytest.raises(DataError, match=r"names dialogue 'Ses01F_impro02', but there is no .*complete the"):
        read_corpora(tmp_path)
    assert list(find_corpora(tmp_path, ["meld"])) == ["meld"]
    (tmp_path / "iemocap/Session1").rename(tmp_path / "iemocap/Sessions")
    with pytest.raises(DataError, match="iemocap: no Session1 to Session5 in it. Remedy: unpack"):
        find_corpora(tmp_path)


def test_missing_corpora_say_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder.*meld/\{train,dev,test\}_sent_emo.csv"):
        read_corpora(tmp_path / "none")
    with pytest.raises(DataError, match=r"found no meld/\{.*iemocap/Session.*emorynlp/emorynlp_\{train"):
        read_corpora(tmp_path)
    write_meld(tmp_path)
    with pytest.raises(
        DataError, match=r"found no emorynlp/emorynlp_\{train,dev,test\}_final.csv \(or .*download"
    ):
        read_corpora(tmp_path, ["meld", "emorynlp"])
    with pytest.raises(DataError, match="unknown corpus 'dailydialogue'.*dailydialog"):
        read_corpora(tmp_path, ["dailydialogue"])
    (tmp_path / "meld/dev_sent_emo.csv").unlink()
    with pytest.raises(DataError, match=r"dev_sent_emo.csv: no such file"):
        read_corpora(tmp_path)


def test_readers_import_no_training_stack():
    code = (
        "import sys, data_prep.corpora; "
        "print({n.split('.')[0] for n in sys.modules} & {'torch', 'verl', 'ray', 'vllm', 'recipe'})"
    )
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


REAL_COUNTS = {
    ("meld", "train"): (1038, 9989),
    ("meld", "dev"): (114, 1109),
    ("meld", "test"): (280, 2610),
    ("emorynlp", "train"): (659, 7551),
    ("emorynlp", "dev"): (89, 954),
    ("emorynlp", "test"): (79, 984),
}


@pytest.mark.skipif("SELF_EMO_RAW_DIR" not in os.environ, reason="SELF_EMO_RAW_DIR is not set")
def test_real_corpora_have_the_published_counts():
    raw_dir = os.environ["SELF_EMO_RAW_DIR"]
    dialogues: Counter = Counter()
    utterances: Counter = Counter()
    ids = set()
    for dialogue in read_corpora(raw_dir):
        key = (dialogue.corpus, dialogue.split)
        dialogues[key] += 1
        utterances[key] += len(dialogue.utterances)
        ids.add((dialogue.corpus, dialogue.dialogue_id))
        if dialogue.corpus != "iemocap":
            assert all(turn.label in LABELS[dialogue.corpus] for turn in dialogue.utterances)
    assert len(ids) == sum(dialogues.values())
    found = find_corpora(raw_dir)
    for key, counts in REAL_COUNTS.items():
        if key[0] in found:
            assert (dialogues[key], utterances[key]) == counts, key
    if "iemocap" in found:
        assert [dialogues["iemocap", split] for split in ("train", "dev", "test")] == [108, 12, 31]


@pytest.mark.skipif("SELF_EMO_RAW_DIR" not in os.environ, reason="SELF_EMO_RAW_DIR is not set")
@pytest.mark.parametrize(
    ("test", "train", "total", "copied"),
    [
        ("meld/test_sent_emo.csv", "emorynlp/emorynlp_train_final.csv", 1399, 120),
        ("emorynlp/emorynlp_test_final.csv", "meld/train_sent_emo.csv", 458, 26),
    ],
)
def test_what_is_known_to_leak_word_for_word_is_among_what_is_found(test, train, total, copied):
    """The raw files compared by the CSV module alone, and then by `overlaps`, which ignores typography."""
    raw_dir = Path(os.environ["SELF_EMO_RAW_DIR"])

    def texts(name: str) -> list[str]:
        with (raw_dir / name).open(encoding="utf-8", newline="") as file:
            return [row["Utterance"] for row in csv.DictReader(file)]

    long, known = [text for text in texts(test) if len(text) > 30], set(texts(train))
    assert (len(long), sum(text in known for text in long)) == (total, copied)
    corpora = [name.split("/")[0] for name in (test, train)]
    (found,) = (
        o
        for o in overlaps(read_corpora(raw_dir, ["meld", "emorynlp"]))
        if (o.test, o.train, o.unit) == (*corpora, "utterance")
    )
    assert copied <= found.exact <= found.near < total and abs(found.total - total) < 10
