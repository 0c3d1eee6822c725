"""DailyDialog in the shape of its release, with lines of the test's own."""

from __future__ import annotations

import sys

import pyarrow.parquet as pq
import pytest

from data_prep.corpora import DataError, find_corpora, read_corpora
from data_prep.corpora.dialogue import Utterance
from data_prep.experts.offline import respond
from data_prep.prepare import main
from rewards.labels import LABELS, OTHERS, corpus_labels
from rewards.parse import parse_output

TEXT = (
    "Say , shall we go ? __eou__ I’d rather not . __eou__ Oh ! __eou__\nHi . __eou__ Hello , you ! __eou__\n"
)
EMOTIONS = "0 2 6\n0 4 \n"


@pytest.fixture
def release(tmp_path):
    """A folder of corpora with DailyDialog in it, in the release's own names."""
    for folder in ("train", "validation", "test"):
        place = tmp_path / "DailyDialog" / folder
        place.mkdir(parents=True)
        (place / f"dialogues_{folder}.txt").write_text(TEXT, encoding="utf-8")
        (place / f"dialogues_emotion_{folder}.txt").write_text(EMOTIONS, encoding="utf-8")
        (place / f"dialogues_act_{folder}.txt").write_text("1 2 3\n1 1\n", encoding="utf-8")
    return tmp_path


def test_the_release_is_read(release):
    dialogues = list(read_corpora(release, ["dailydialog"]))
    assert [(d.corpus, d.split, d.dialogue_id) for d in dialogues] == [
        ("dailydialog", split, f"{split}_{i}") for split in ("train", "dev", "test") for i in range(2)
    ]
    assert dialogues[0].utterances == (
        Utterance("0", "Speaker A", "Say , shall we go ?", "no emotion"),
        Utterance("1", "Speaker B", "I’d rather not .", "disgust"),
        Utterance("2", "Speaker A", "Oh !", "surprise"),
    )
    assert [u.label for u in dialogues[1].utterances] == ["no emotion", "happiness"]


def test_names_without_the_split_are_read(release):
    for folder in (release / "DailyDialog").iterdir():
        (folder / f"dialogues_{folder.name}.txt").rename(folder / "dialogues_text.txt")
        (folder / f"dialogues_emotion_{folder.name}.txt").rename(folder / "dialogues_emotion.txt")
    assert len(list(read_corpora(release, "dailydialog"))) == 6


def test_capitals_of_folders_and_files_do_not_matter(release):
    folder = release / "DailyDialog/train"
    (folder / "dialogues_train.txt").rename(folder / "Dialogues_Train.txt")
    folder.rename(release / "DailyDialog/Train")
    assert len(list(read_corpora(release, "dailydialog"))) == 6


def test_it_is_read_only_where_it_is_asked_for(release):
    with pytest.raises(DataError, match="found no meld/.*iemocap/.*emorynlp/"):
        find_corpora(release)
    assert list(find_corpora(release, ["dailydialog"])) == ["dailydialog"]
    with pytest.raises(DataError, match="found no dailydialog/.* Remedy: unpack the release there"):
        find_corpora(release / "DailyDialog", ["dailydialog"])
    assert "dailydialog" not in LABELS and corpus_labels("dailydialog") == OTHERS["dailydialog"]


@pytest.mark.parametrize(
    ("name", "content", "line", "problem"),
    [
        ("dialogues_train.txt", "Hi . __eou__ You ! __eou__\n", None, "3 emotions"),
        ("dialogues_train.txt", TEXT.replace("Oh ! __eou__", "Oh !"), 1, "the last utterance has no __eou__"),
        ("dialogues_train.txt", TEXT.replace("Hello , you !", " "), 2, "utterance 2 is empty"),
        ("dialogues_train.txt", TEXT + "More . __eou__\n", 3, "dialogues_emotion_train.txt has nothing"),
        ("dialogues_train.txt", "Hi . __eou__ " * 2001 + "\n", 1, "2,001 utterances where a dialogue has at"),
        ("dialogues_train.txt", "", 1, "dialogues_train.txt has nothing on this line"),
        ("dialogues_train.txt", TEXT.replace("Oh", "O\0h"), 1, "unreadable character U+0000"),
        ("dialogues_emotion_train.txt", "0 2\0 6\n0 4\n", 1, "'2\\x00' is no class id"),
        ("dialogues_emotion_train.txt", "0 2 6\n0 7\n", 2, "'7' is no class id from 0 to 6"),
        ("dialogues_emotion_train.txt", "0 2 6\n\n", 2, "dialogues_emotion_train.txt has nothing"),
        ("dialogues_emotion_train.txt", "0 2 6\n0 ٤\n", 2, "is no class id"),
    ],
)
def test_what_cannot_be_used_names_file_and_line(release, name, content, line, problem):
    (release / "DailyDialog/train" / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        list(read_corpora(release, ["dailydialog"]))
    assert problem in str(caught.value) and "Remedy: " in str(caught.value)
    assert line is None or caught.value.line == line


def test_missing_and_packed_folders_are_told_at_the_call(release):
    root = release / "DailyDialog"
    (root / "test").rename(root / "away")
    with pytest.raises(DataError, match="test: no such folder. Remedy: complete it"):
        read_corpora(release, ["dailydialog"])
    (root / "test.zip").touch()
    with pytest.raises(DataError, match=r"unpack test\.zip there"):
        read_corpora(release, ["dailydialog"])
    (root / "train/dialogues_text.txt").write_text(TEXT)
    with pytest.raises(DataError, match=r"both dialogues_train\.txt and dialogues_text\.txt"):
        read_corpora(release, ["dailydialog"])


def test_it_is_prepared_like_any_other(release, monkeypatch):
    out = release / "out"
    command = ["prepare", "--raw-dir", str(release), "--out-dir", str(out), "--corpora", "dailydialog"]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    rows = pq.read_table(out / "train.parquet").to_pylist()
    assert [row["data_source"] for row in rows] == ["dailydialog"] * 5
    truth = rows[0]["reward_model"]["ground_truth"]
    assert {label: weight for label, weight in truth.items() if weight} == {"no emotion": 1.0}
    assert "no emotion" in rows[0]["prompt"][0]["content"] + rows[0]["prompt"][-1]["content"]
    assert "dailydialog" in (out / "data_card.html").read_text()


def test_the_rule_and_the_offline_expert_know_its_labels():
    said = respond([{"speaker": "A", "text": "What is the time?"}], {"name": "B"}, "dailydialog")
    parsed = parse_output(said, corpus_labels("dailydialog"))
    assert parsed.valid and max(parsed.last_emotions, key=parsed.last_emotions.get) == "no emotion"
