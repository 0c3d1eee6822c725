"""All corpora below one folder; the real ones only if SELF_EMO_RAW_DIR names them."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from data_prep.corpora import find_corpora, iemocap, read_corpora
from data_prep.corpora.dialogue import DataError
from data_prep.leakage import overlaps
from rewards.labels import LABELS
from tests.unit.data_prep.corpora.corpus_files import (
    EMORY_HEADER,
    EMORY_ROW,
    MELD_HEADER,
    MELD_ROW,
    simple_dialogue,
    write,
)


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


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link", "two of them"])
def test_a_split_file_that_cannot_be_used_is_told_and_the_usual_split_not_taken_instead(tmp_path, kind):
    simple_dialogue(tmp_path / "iemocap", "Ses01F_impro01")
    path = tmp_path / "iemocap_split.json"
    if kind == "two of them":
        write(tmp_path / "iemocap/iemocap_split.json", "{}")
        write(path, "{}")
    make = {"folder": Path.mkdir, "pipe": os.mkfifo, "dangling link": lambda p: p.symlink_to("gone")}
    make.get(kind, Path.exists)(path)
    with pytest.raises(DataError, match=rf"{path}: (this is no file|cannot be read|.* is there, too)"):
        list(read_corpora(tmp_path, "iemocap"))


def test_dialogues_in_no_split_are_told(tmp_path, caplog):
    write_iemocap(tmp_path, "iemocap_split.json")
    simple_dialogue(tmp_path / "iemocap", "Ses03M_impro07")
    assert len(list(read_corpora(tmp_path, "iemocap"))) == 4
    (told,) = caplog.messages
    assert "1 of the release's dialogues are in none of its splits" in told and "Ses03M_impro07" in told


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


def test_two_folders_of_one_corpus_are_told(tmp_path):
    for name in ("meld", "MELD"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="MELD and meld are the same corpus"):
        find_corpora(tmp_path)


def test_capitals_of_files_do_not_matter_and_two_spellings_are_told(tmp_path):
    write_meld(tmp_path)
    write_emory(tmp_path)
    write_iemocap(tmp_path, "IEMOCAP_split.json")
    (tmp_path / "meld/train_sent_emo.csv").rename(tmp_path / "meld/Train_sent_emo.CSV")
    (tmp_path / "emorynlp/emorynlp_dev_final.csv").rename(tmp_path / "emorynlp/EmoryNLP_dev_final.csv")
    (tmp_path / "iemocap/Session1").rename(tmp_path / "iemocap/session1")
    assert len(list(read_corpora(tmp_path))) == 3 + 3 + 4
    write(tmp_path / "meld/train_sent_emo.csv", MELD_HEADER + MELD_ROW)
    with pytest.raises(DataError, match=r"Train_sent_emo.CSV and train_sent_emo.csv differ in"):
        read_corpora(tmp_path)


def test_a_folder_is_named_from_the_user_s_home_and_one_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    write_meld(tmp_path / "raw")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(find_corpora("~/raw")) == ["meld"]
    with pytest.raises(DataError, match="~no-such-user/raw: no such folder"):
        find_corpora("~no-such-user/raw")
    with pytest.raises(DataError, match="cannot be read .File name too long.*Remedy: check its name"):
        find_corpora("a" * 5000)

    def refused(_):
        raise PermissionError(13, "Permission denied", str(tmp_path / "raw"))

    monkeypatch.setattr(Path, "iterdir", refused)  # a superuser may read all
    with pytest.raises(DataError, match=r"raw: cannot be read .Permission denied.*its permissions"):
        find_corpora("~/raw")


def test_a_refusal_is_one_line():
    assert len(str(DataError("a\nb", 1, "one\ntwo\n", "three")).splitlines()) == 1
