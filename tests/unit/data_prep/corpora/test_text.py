"""Text and names of corpora: invisible, decoded twice, alike; lists of speakers in every form."""

from __future__ import annotations

import os

import pytest

from data_prep.corpora import emorynlp, find_corpora, meld
from data_prep.corpora import text as clean
from data_prep.corpora.dialogue import DataError
from tests.unit.samples import SAMPLES

MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
MELD_ROW = "1,Hello there,Ada,joy,positive,0,0\n"
EMORY_HEADER = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode\n"


def read_meld(folder, content: str) -> list:
    (folder / "train_sent_emo.csv").write_text(content, encoding="utf-8")
    return list(meld.read_split(folder / "train_sent_emo.csv", "train"))


def read_emory(folder, content: str) -> list:
    (folder / "emorynlp_train_final.csv").write_text(content, encoding="utf-8")
    return list(emorynlp.read_split(folder / "emorynlp_train_final.csv", "train"))


def assert_error(error: DataError, name: str, line: int, problem: str) -> None:
    assert f"{name}, line {line}: " in str(error) and problem in str(error) and "Remedy: " in str(error)


def twice(text: str, times: int = 1) -> str:
    """A text in UTF-8, read by somebody who took it for cp1252."""
    for _ in range(times):
        text = "".join(clean._as_cp1252(byte) for byte in text.encode())
    return text


@pytest.mark.parametrize(
    "meant",
    [
        *("It\u2019s fine.", "Caf\xe9\u2026", "\u201cNo\u201d \u2013 yes", "Oh \U0001f600", "a\xa0b \xa3"),
        "\u266a la \u266a \u2192 \u2764 \u2122",
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_text_that_was_decoded_twice_is_read_as_it_was_meant_and_told(tmp_path, caplog, meant, times):
    name = "Zo\xeb"
    row = f'1,"{twice(meant, times)}",{twice(name, times)},joy,positive,0,0\n'
    (dialogue,) = read_meld(tmp_path, MELD_HEADER + row)
    turn = dialogue.utterances[0]
    assert (turn.text, turn.speaker) == (" ".join(meant.split()), name)
    assert "train_sent_emo.csv, line 2: UTF-8 that was read as cp1252" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "It\xe2\u20ac s fine.",  # the third byte was lost
        twice("It\u2019s") + " a caf\xe9",  # a line of two minds
        twice("caf\xe9") + " \u4f60",
    ],
)
def test_text_that_was_decoded_twice_and_has_no_way_back_is_refused(tmp_path, text):
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, MELD_HEADER + MELD_ROW + f'2,"{text}",Ada,joy,positive,0,9\n')
    assert_error(caught.value, "train_sent_emo.csv", 3, "is UTF-8 that was read as cp1252 and saved")


@pytest.mark.parametrize("encoding", ["mac_roman", "cp437", "cp1251"])
def test_other_wrong_encodings_are_known_too(tmp_path, caplog, encoding):
    text = "\u201cIt\u2019s\u201d \u2013 fine\u2026"
    (dialogue,) = read_meld(
        tmp_path, MELD_HEADER + f'1,"{text.encode().decode(encoding)}",Ada,joy,positive,0,0\n'
    )
    assert dialogue.utterances[0].text == text and f"was read as {encoding}" in caplog.text


@pytest.mark.parametrize("encoding", ["cp1252", "cp1250", "cp1253", "cp1257", "mac_roman", "cp437", "cp850"])
@pytest.mark.parametrize("text", ["Caf\xe9?", "na\xefve", "It\u2019s", "\u20ac5"])
def test_european_text_is_read_as_it_was_meant_from_the_encodings_of_europe(encoding, text):
    wrong = "".join(bytes([b]).decode(encoding, errors="ignore") or chr(b) for b in text.encode())
    assert clean.clean_text(wrong, "a.csv", 1) == text


@pytest.mark.parametrize(
    "text", ["\u4f60\u597d", "\u65e5\u672c", "\u041f\u0440\u0438\u0432\u0435\u0442", "Oh \U0001f389"]
)
@pytest.mark.parametrize("times", [1, 2])
def test_other_scripts_and_emoji_that_were_decoded_twice_are_read_as_they_were_meant(text, times):
    assert clean.clean_text(twice(text, times), "a.csv", 1) == text
    for wrong in {text.encode().decode("latin-1"), text.encode().decode("mac_roman")} if "Oh" in text else ():
        assert clean.clean_text(wrong, "a.csv", 1) == text


def test_text_that_was_decoded_twice_in_two_ways_is_read_as_it_was_meant():
    wrong = twice("It\u2019s \U0001f600").encode().decode("mac_roman")
    assert clean.clean_text(wrong, "a.csv", 1) == "It\u2019s \U0001f600"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "CAF\xc9\xae \xc9\xa9",
            "\u201c\xa35\u201d \u2014\xa35",
            "\xa1S\xcd!\xbf",
            "5 \xc5\xb2",
            "20\xb0C",
            "MAM\xc1\xbb",
        ),
        *(
            "\u010c\xc1P \u201e\u017d\u201c",
            "\u0420\u0401\u0412 \u0432\u0441\u0451",
            "\u0393\u0395\u0399\u0386 \xab\u038c\xbb",
            "\u0218TIIN\u021a\u0102 C\u0102\u0162EL\u201d",
        ),
        *(
            "\u0130\u011eNE \u201c\u011e\u201d",
            "\u0112diens \u0136\u201d",
            "\u251c\u2500 x",
            "\u2261 \u0393(x)",
            "\xac\u2200",
        ),
    ],
)
def test_signs_that_may_follow_a_letter_stay(text):
    assert clean.clean_text(text, "a.csv", 1) == text


@pytest.mark.parametrize(
    "text",
    [
        *("Caf\xe9 \xab \xdc \xbb", "CAF\xc9\u2026", "\xbfQu\xe9?", "na\xefve \u2019", "\u4f60\u597d"),
        *("pens\xe2\u2019\u2026", "\u201apens\xe2\u201d", "\u0432\u0402, \u0393\xc7", "\u221a2"),
    ],
)
def test_what_is_written_in_other_letters_stays(tmp_path, text):
    (dialogue,) = read_meld(tmp_path, MELD_HEADER + f'1,"{text}",Ada,joy,positive,0,0\n')
    assert dialogue.utterances[0].text == text


INVISIBLE = ["\u200b", "\ufeff", "\u2060", "\xad", "\u202e", "\u200e", "\U000e0041"]


@pytest.mark.parametrize("char", ["\ufdd0", "\ufffe", "\uffff"])
def test_what_is_no_character_is_unreadable(char):
    with pytest.raises(DataError, match=f"unreadable character U\\+{ord(char):04X}"):
        clean.clean_text(f"a{char}b", "a.csv", 1)


@pytest.mark.parametrize(
    "name",
    ["['Ann', 'Bob']", "('Ann',)", "{'Ann', 'Bob'}", "[['Ann']]", "array(['Ann'])", "[b'Ann']", '["Ann"]'],
)
def test_a_printed_list_is_no_name(tmp_path, name):
    quoted = name.replace('"', '""')
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, MELD_HEADER + f'1,Hi,"{quoted}",joy,positive,0,0\n')
    assert_error(caught.value, "train_sent_emo.csv", 2, "is a printed list, not a name")


@pytest.mark.parametrize("name", ["(Ann)", "Ann [off]", "Ann 'Annie' B", "O'Neil", "#1 Girl"])
def test_brackets_and_quotes_of_a_name_stay(name):
    assert clean.clean_name(name, "a.csv", 1) == name


@pytest.mark.parametrize("char", [*INVISIBLE, "\u2800", "\u3164", "\u200d"])
def test_an_utterance_of_which_nothing_is_seen_is_empty(tmp_path, char):
    for row, said in ((f"1,{char},Ada", "empty utterance"), (f"1,Hi,{char}", "empty speaker")):
        with pytest.raises(DataError) as caught:
            read_meld(tmp_path, MELD_HEADER + f"{row},joy,positive,0,0\n")
        assert_error(caught.value, "train_sent_emo.csv", 2, said)


@pytest.mark.parametrize(
    "other",
    [
        *(f"Z{char}oe\u0301{char}" for char in INVISIBLE),
        "Zo\xe9",
        " Zo\xe9\xa0",
        "Zoe\u0301\ufe0f",
        "Z\u034fo\xe9",
    ],
)
def test_names_that_differ_in_what_is_invisible_are_one_person(tmp_path, other):
    rows = "1,Hi,Zoe\u0301,joy,positive,0,0\n" + f"2,Hi,{other},joy,positive,0,1\n"
    (dialogue,) = read_meld(tmp_path, MELD_HEADER + rows)
    assert {turn.speaker for turn in dialogue.utterances} == {"Zo\xe9"}


def test_what_is_invisible_is_no_part_of_an_utterance_but_joiners_are(tmp_path):
    family = "\U0001f469\u200d\U0001f467"
    row = f'1,"\ufeffwo\xadnder\u200bful {family} \u0645\u06cc\u200c\u062e",Ada,joy,positive,0,0\n'
    (dialogue,) = read_meld(tmp_path, MELD_HEADER + row)
    assert dialogue.utterances[0].text == f"wonderful {family} \u0645\u06cc\u200c\u062e"


@pytest.mark.parametrize(
    ("cell", "speaker"),
    [
        ("['Ann B' 'Bob C']", "Ann B and Bob C"),
        ("['Ann B'\n 'Bob C']", "Ann B and Bob C"),
        ("""[ 'Ann B'  "Bob O'C" , ]""", "Ann B and Bob O'C"),
        ("""['Ann B', 'Bob O\\'C']""", "Ann B and Bob O'C"),
    ],
)
def test_a_list_of_speakers_as_numpy_prints_it_is_two_people(tmp_path, cell, speaker):
    quoted = cell.replace('"', '""')
    (dialogue,) = read_emory(tmp_path, EMORY_HEADER + f'Hi,"{quoted}",mad,1,1,1,1\n')
    assert dialogue.utterances[0].speaker == speaker


@pytest.mark.parametrize(
    "cell",
    [
        "['Ann''Bob']",
        "['Ann'; 'Bob']",
        "array(['Ann'])",
        "[b'Ann']",
        "['Ann', ...]",
        "[f'Ann']",
        r"['\N{no}']",
    ],
)
def test_what_is_no_plain_list_of_names_is_refused(tmp_path, cell):
    with pytest.raises(DataError) as caught:
        read_emory(tmp_path, EMORY_HEADER + f'Hi,"{cell}",mad,1,1,1,1\n')
    assert_error(caught.value, "emorynlp_train_final.csv", 2, "is no list of names")


def test_a_corpus_that_is_asked_for_by_a_word_is_a_list_of_one():
    assert list(find_corpora(SAMPLES, "meld")) == ["meld"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"1,Hi,Ada,joy,positive,{'9' * 5000},0", "Dialogue_ID '9999"),
        (f"1,Hi,Ada,joy,positive,0,{'9' * 19}", "is not a whole number"),
        (
            f"1,{'Hi ' * 40_000},Ada,joy,positive,0,1",
            "120,000 characters where an utterance has at most",
        ),
        (f"1,Hi,{'A' * 201},joy,positive,0,1", "201 characters where names have at most 200"),
        (f"1,Hi,Ada,{'joy ' * 1000},positive,0,1", "unknown emotion 'joy joy"),
        (f"1,{'Hi ' * 400_000},Ada,joy,positive,0,0", "a line of more than 1,000,000 bytes"),
    ],
)
def test_what_no_release_has_is_refused_with_its_line_and_in_short(tmp_path, row, problem):
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, f"{MELD_HEADER}{MELD_ROW}{row}\n")
    assert_error(caught.value, "train_sent_emo.csv", 3, problem)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_dialogue_of_thousands_is_refused_before_it_is_held(tmp_path):
    people = "".join(f"1,Hi,A{i},joy,positive,0,{i}\n" for i in range(3000))
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, MELD_HEADER + people)
    assert_error(caught.value, "train_sent_emo.csv", 202, "utterances or 200 people")
    turns = "".join(f"1,Hi,A,joy,positive,0,{i}\n" for i in range(3000))
    with pytest.raises(DataError) as caught:
        read_meld(tmp_path, MELD_HEADER + turns)
    assert_error(caught.value, "train_sent_emo.csv", 2002, "more than 2,000 utterances")
    names = ", ".join(f"'A{i}'" for i in range(1000))
    with pytest.raises(DataError) as caught:
        read_emory(tmp_path, EMORY_HEADER + f'Hi,"[{names}]",mad,1,1,1,1\n')
    assert_error(caught.value, "emorynlp_train_final.csv", 2, "1,000 speakers of one utterance")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_where_a_file_belongs_is_no_file(tmp_path, make):
    path = tmp_path / "meld/train_sent_emo.csv"
    path.parent.mkdir()
    make(path)
    for use in (lambda: list(meld.read_split(path, "train")), lambda: find_corpora(tmp_path, ["meld"])):
        with pytest.raises(DataError, match="train_sent_emo.csv: this is no file"):
            use()


@pytest.mark.parametrize(
    "name", ["MELD.Raw", "meld ", "meld.zip", "M.E.L.D", "\uff2d\uff25\uff2c\uff24", "me_ld-master"]
)
def test_what_is_nearly_called_as_a_corpus_is_told(tmp_path, caplog, name):
    emory = tmp_path / "emorynlp"
    emory.mkdir()
    for split in ("train", "dev", "test"):
        (emory / f"emorynlp_{split}_final.csv").touch()
    (tmp_path / name).touch()
    assert list(find_corpora(tmp_path)) == ["emorynlp"]
    assert f"{tmp_path / name} is not read: a corpus lies unpacked in a folder of its name" in caplog.text
    with pytest.raises(DataError, match=f"Remedy: {name} is there: .* call the folder meld"):
        find_corpora(tmp_path, ["meld"])


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"PK\x03\x04\xff", "a zip file or a spreadsheet"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"BZh91AY", "a bzip2 file"),
        (b"<!DOCTYPE html>\n", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_a_packed_file_is_told_as_such(tmp_path, begin, kind):
    path = tmp_path / "train_sent_emo.csv"
    path.write_bytes(begin)
    with pytest.raises(DataError, match=f"this is {kind}. Remedy: unpack it"):
        list(meld.read_split(path, "train"))
