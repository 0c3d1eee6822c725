"""IEMOCAP's transcripts, evaluations and split files: what is read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.corpora import iemocap
from data_prep.corpora.dialogue import DataError, Utterance
from rewards.labels import LABELS
from tests.unit.data_prep.corpora.corpus_files import (
    HEADING,
    assert_error,
    simple_dialogue,
    summary,
    write,
    write_dialogue,
)


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


GOOD = "Ses01F_impro01_F000 [1.0-2.0]: Hello.\n"


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


@pytest.mark.parametrize(
    ("transcript", "line", "problem"),
    [
        ("", None, "no timed utterance"),
        ("M: Only this.\n", None, "no timed utterance"),
        (
            GOOD.replace("\n", "\r") + "Ses01F_impro01_F001 [2.0-3.0]: Hi.\n",
            1,
            "more than one utterance in the",
        ),
        (GOOD.replace("\n", "\u2028") + "Ses01F_impro01_F001 [2.0-3.0]: Hi.\n", 1, "more than one utterance"),
        (GOOD + f"Ses01F_impro01_F001 [{'9' * 400}-3.0]: Hi.\n", 2, "unreadable line"),
        (GOOD + "some stray words\n", 2, "unreadable line 'some stray words'"),
        (GOOD + "\nSes01F_impro01_F001 [1.0-]: Hi.\n", 3, "unreadable line"),
        (GOOD + "Ses01F_impro01_F001 [2.0-3.0] Hi.\n", 2, "unreadable line"),
        (GOOD + "Ses01F_impro01_F001\n", 2, "unreadable line"),
        (GOOD + "Ses01F_impro01_F001 [2.0-3.0]:  \n", 2, "empty utterance"),
        (GOOD + GOOD, 2, "duplicate utterance id"),
        (GOOD + f"Ses01F_impro01_F{'9' * 5000} [2.0-3.0]: Hi.\n", 2, "is no utterance id of dialogue"),
        (GOOD + "a" * 1_000_001, 2, "a line of more than 1,000,000 bytes"),
        (
            "".join(f"Ses01F_impro01_F{i} [2.0-3.0]: Hi.\n" for i in range(2001)),
            2001,
            "a dialogue of more than 2,000 utterances",
        ),
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
        (summary("Ses01F_impro01_F000", "zzz"), 1, "unknown emotion 'zzz'; expected one of hap, sad, neu"),
        (HEADING + "C-E1:\tAnger;\t()\r" + summary("Ses01F_impro01_F000", "neu"), 3, "a summary within"),
        (HEADING + "\u200b" + summary("Ses01F_impro01_F000", "neu"), 3, "a summary within the line"),
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
    with pytest.raises(DataError, match="split 'dev': 'Ses01F_a{53}' is no dialogue id"):
        iemocap.read_release(tmp_path, {"dev": ["Ses01F_" + "a" * 5000]})
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
        ('{"train": [], "dev": [], "test": []}', None, "no split names a dialogue"),
        ('{"train": [], "dev": []}', None, "not an object with exactly the keys"),
        ('{"train": [], "dev": "Ses", "test": []}', None, "split 'dev' is no list"),
        ('{"train": ["a"], "dev": [], "test": ["a"]}', None, "'a' stands in train and again in test"),
    ],
)
def test_iemocap_bad_split_files(tmp_path, content, line, problem):
    with pytest.raises(DataError) as caught:
        iemocap.load_splits(write(tmp_path / "iemocap_split.json", content))
    assert_error(caught.value, "iemocap_split.json", line, problem)
