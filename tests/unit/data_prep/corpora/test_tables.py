"""Known corpora as tables, in the forms in which data sets are passed on."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.corpora import DataError, find_corpora, read_corpora
from data_prep.corpora.dialogue import Utterance

MELD_IDS = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
ROWS = [
    {"dialogue_id": 7, "utterance_id": 1, "speaker": "Ann", "text": "Oh  no.", "label": 2},
    {"dialogue_id": 7, "utterance_id": 0, "speaker": "Bob", "text": "Look!", "label": 1},
    {"dialogue_id": 9, "utterance_id": 0, "speaker": "Ann", "text": "Great.", "label": 4},
]


def jsonl(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def parquet(path: Path, rows: list[dict], features: dict | None = None) -> None:
    """As the library `datasets` writes it, where there are ``features``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(about), path)


def read(raw: Path, corpus: str) -> dict[str, list]:
    found: dict[str, list] = {}
    for dialogue in read_corpora(raw, [corpus]):
        found.setdefault(dialogue.split, []).append(dialogue)
    return found


def test_parquet_with_class_ids_as_datasets_writes_it(tmp_path):
    features = {"text": {"dtype": "string"}, "label": {"names": MELD_IDS, "_type": "ClassLabel"}}
    for split in ("train", "validation", "test"):
        parquet(tmp_path / f"meld/data/{split}-00000-of-00001.parquet", ROWS, features)
    found = read(tmp_path, "meld")
    assert list(found) == ["train", "dev", "test"]
    assert [d.dialogue_id for d in found["dev"]] == ["dev_7", "dev_9"]
    assert found["dev"][0].utterances == (
        Utterance("0", "Bob", "Look!", "surprise"),
        Utterance("1", "Ann", "Oh no.", "fear"),
    )
    assert list(find_corpora(tmp_path)) == ["meld"]  # without being asked for, as the release would be


def test_a_dialogue_may_go_on_in_the_next_file(tmp_path):
    for split in ("train", "dev", "test"):
        jsonl(tmp_path / f"meld/{split}-1.jsonl", ROWS[:1])
        jsonl(tmp_path / f"meld/{split}-2.jsonl", ROWS[1:])
    (tmp_path / "meld/label_names.json").write_text(json.dumps(MELD_IDS))
    assert [len(d.utterances) for d in read(tmp_path, "meld")["train"]] == [2, 1]


def test_one_file_with_a_column_for_the_split_and_labels_by_name(tmp_path):
    rows = [
        {"Season": 1, "Episode": 2, "Scene_ID": 3, "Utterance_ID": i, "Split": split,
         "Speaker": "['Ann B', 'Cy D']", "Utterance": f"Line {i}", "Emotion": emotion}
        for split in ("train", "valid", "test") for i, emotion in enumerate(["joyful", "MAD"])
    ]  # fmt: skip
    parquet(tmp_path / "EmoryNLP/all.parquet", rows)
    found = read(tmp_path, "emorynlp")
    assert {split: [d.dialogue_id for d in found[split]] for split in found} == {
        split: [f"{split}_1_2_3"] for split in ("train", "dev", "test")
    }
    assert found["dev"][0].utterances[1] == Utterance("1", "Ann B and Cy D", "Line 1", "Mad")


def test_iemocap_by_code_with_lines_that_are_context_only(tmp_path):
    name = "Ses01F_impro01"
    codes = ["hap", "Frustration", "xxx", None]
    rows = [
        {
            "dialogue_id": name,
            "utterance_id": f"{name}_F{i:03}",
            "speaker": "F",
            "text": "Hm.",
            "emotion": code,
        }
        for i, code in enumerate(codes)
    ]
    for split, other in (("train", name), ("dev", "Ses02F_impro01"), ("test", "Ses05F_impro01")):
        jsonl(tmp_path / f"iemocap/{split}.jsonl", [row | {"dialogue_id": other} for row in rows])
    (dialogue,) = read(tmp_path, "iemocap")["train"]
    assert dialogue.dialogue_id == name
    assert [u.label for u in dialogue.utterances] == ["happy", "frustrated", None, None]


def test_a_dialogue_of_iemocap_in_two_splits_is_refused(tmp_path):
    row = {"speaker": "F", "text": "Hm.", "emotion": "hap"}
    for split, name in (("train", "Ses01F_impro01"), ("dev", "Ses02F_impro01"), ("test", "Ses01F_impro01")):
        jsonl(tmp_path / f"iemocap/{split}.jsonl", [row | {"dialogue_id": name}])
    with pytest.raises(DataError, match=r"test.jsonl, line 1: dialogue 'Ses01F_impro01' stands in train and"):
        read(tmp_path, "iemocap")


def test_a_row_may_be_a_dialogue(tmp_path):
    rows = [
        {"dialog": ["Hi .", "Go !", "Why ?"], "act": [1, 2, 3], "emotion": [0, 1, 6]},
        {"dialog": ["So ."], "emotion": [4]},
    ]
    names = ["no emotion", "anger", "disgust", "fear", "happiness", "sadness", "surprise"]
    features = {"emotion": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}}
    for split in ("train", "validation", "test"):
        parquet(tmp_path / f"dailydialog/{split}.parquet", rows, features)
    first, second = read(tmp_path, "dailydialog")["test"]
    assert [(u.speaker, u.label) for u in first.utterances] == [
        ("Speaker A", "no emotion"), ("Speaker B", "anger"), ("Speaker A", "surprise")
    ]  # fmt: skip
    assert [u.label for u in second.utterances] == ["happiness"]


def without(rows: list[dict], column: str) -> list[dict]:
    return [{name: cell for name, cell in row.items() if name != column} for row in rows]


NAN = float("nan")
SCENES = [
    {"season": season, "episode": 1, "scene_id": 2, "speaker": "A", "text": "x", "label": "joy"}
    for season in (1, None)
]
NAMED = [row | {"label": MELD_IDS[row["label"]]} for row in ROWS]


@pytest.mark.parametrize(
    ("rows", "line", "problem"),
    [
        (
            ROWS,
            1,
            r"class id 2, and nobody says what it means. Remedy: write the labels .*meld/label_names.json",
        ),
        (
            without(NAMED, "text"),
            None,
            "no column for the text among dialogue_id, .*call it utterance or text",
        ),
        (without(NAMED, "speaker"), None, "no column for the speaker"),
        (without(NAMED, "dialogue_id"), 1, "no column for the dialogue"),
        ([NAMED[0], NAMED[2], NAMED[1]], 3, "dialogue '7' stood above already"),
        ([NAMED[0], NAMED[0]], 2, "utterance 1 of its dialogue stands there twice"),
        ([NAMED[0] | {"label": "glee"}], 1, "unknown emotion 'glee'; expected one of neutral, "),
        ([NAMED[0] | {"text": " "}], 1, "empty utterance"),
        ([NAMED[0] | {"text": 3}], 1, "utterance 3 is no text"),
        ([NAMED[0] | {"speaker": None}], 1, "no speaker"),
        ([NAMED[0] | {"speaker": NAN}], 1, "speaker nan is no name"),
        ([NAMED[0] | {"speaker": {"name": "Ann"}}], 1, "is no name"),
        ([NAMED[0] | {"dialogue_id": None}], 1, "no dialogue id"),
        ([NAMED[0] | {"dialogue_id": "\u200b"}], 1, "no dialogue id"),
        ([NAMED[0] | {"dialogue_id": NAN}], 1, "dialogue id nan is neither text nor a whole number"),
        ([NAMED[0] | {"dialogue_id": "7" * 5000}], 1, "5,000 characters"),
        (SCENES, 2, "no dialogue id"),
        ([NAMED[0] | {"utterance_id": [1]}], 1, r"utterance id \[1\] is neither"),
        ([NAMED[0] | {"utterance_id": True}], 1, "utterance id True is neither"),
        ([NAMED[0], NAMED[0] | {"utterance_id": "1"}], 2, "utterance 1 of its dialogue stands there twice"),
        ([without(NAMED[:1], "utterance_id")[0], NAMED[1]], 2, "'utterance_id' stands in no row before"),
        ([NAMED[0] | {"Text": "Hm."}], None, "more than one column text"),
        ([NAMED[0] | {"text": [], "label": [], "speaker": []}], 1, "a dialogue without an utterance"),
        ([NAMED[0] | {"text": "Hi \ud83d"}], 1, r"unreadable character U\+D83D"),
        ([NAMED[0] | {"text": ["a", "b"], "label": ["joy"], "speaker": ["A", "B"]}], 1, "different lengths"),
    ],
)
def test_what_cannot_be_used_names_file_and_line(tmp_path, rows, line, problem):
    for split in ("train", "dev", "test"):
        jsonl(tmp_path / f"meld/{split}.jsonl", rows)
    with pytest.raises(DataError, match=problem) as caught:
        read(tmp_path, "meld")
    assert caught.value.line == line and caught.value.path.endswith(".jsonl")


def test_ids_and_class_ids_that_became_floats_are_whole_numbers(tmp_path):
    """As pandas writes a column in which one is missing; and texts of digits are in the order of numbers."""
    floats = [
        row | {name: float(row[name]) for name in ("dialogue_id", "utterance_id", "label")} for row in ROWS
    ]
    texts = [row | {"dialogue_id": "7\u200b", "utterance_id": i} for row, i in zip(ROWS, "93A", strict=True)]
    for split, rows in {"train": floats, "dev": ROWS, "test": texts[:2]}.items():
        parquet(tmp_path / f"meld/{split}.parquet", rows)
    (tmp_path / "meld/label_names.json").write_text(json.dumps(MELD_IDS))
    found = read(tmp_path, "meld")
    assert [d.utterances for d in found["train"]] == [d.utterances for d in found["dev"]]
    assert [d.dialogue_id for d in found["train"]] == ["train_7", "train_9"]
    (dialogue,) = found["test"]
    assert (dialogue.dialogue_id, [u.utterance_id for u in dialogue.utterances]) == ("test_7", ["3", "9"])


@pytest.mark.parametrize("names", [["joy", "anger", "joy"], ["joy", "JOY ", "anger"]])
def test_two_class_ids_of_one_name_are_refused(tmp_path, names):
    for split in ("train", "dev", "test"):
        jsonl(tmp_path / f"meld/{split}.jsonl", ROWS)
    (tmp_path / "meld/label_names.json").write_text(json.dumps(names))
    with pytest.raises(DataError, match=r"label_names.json: 'joy' is the name of two class ids"):
        read(tmp_path, "meld")


@pytest.mark.parametrize("label", [7, "7", "9" * 5000])
def test_a_class_id_without_a_name_is_refused(tmp_path, label):
    for split in ("train", "dev", "test"):
        jsonl(tmp_path / f"meld/{split}.jsonl", [ROWS[0] | {"label": label}])
    (tmp_path / "meld/label_names.json").write_text(json.dumps(MELD_IDS))
    with pytest.raises(DataError, match=r"train.jsonl, line 1: class id [79]{1,40} of 7 classes"):
        read(tmp_path, "meld")


def test_a_row_of_another_split_than_its_file_is_refused(tmp_path):
    for split, rows in {
        "train": [*NAMED[:1], NAMED[1] | {"split": "Test"}],
        "dev": NAMED,
        "test": NAMED,
    }.items():
        jsonl(tmp_path / f"meld/{split}.jsonl", [{"split": None} | row for row in rows])
    with pytest.raises(DataError, match=r"train.jsonl, line 2: split 'Test' in a file of the train split"):
        read(tmp_path, "meld")


def test_a_parquet_file_that_breaks_off_or_is_no_utf_8_is_told_with_its_name(tmp_path):
    for split in ("train", "dev", "test"):
        parquet(tmp_path / f"meld/{split}.parquet", NAMED)
    path = tmp_path / "meld/train.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("text")
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in range(4)))
    bad = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"Hi\xff")])
    pq.write_table(table.set_column(place, "text", bad), path)
    with pytest.raises(DataError, match=r"train.parquet: cannot be read behind row \d \(.*utf-8"):
        read(tmp_path, "meld")
    whole = (tmp_path / "meld/dev.parquet").read_bytes()
    path.write_bytes(whole[:4] + bytes(200) + whole[204:])
    with pytest.raises(DataError, match=r"train.parquet: cannot be read behind row 0"):
        read(tmp_path, "meld")


def test_a_key_that_stands_twice_loses_no_value(tmp_path):
    for split in ("train", "dev", "test"):
        jsonl(tmp_path / f"meld/{split}.jsonl", NAMED)
    path = tmp_path / "meld/train.jsonl"
    path.write_text(path.read_text().replace('"text": "Look!"', '"text": "Look!", "text": "No."'))
    with pytest.raises(DataError, match=r"train.jsonl, line 2: .*the key 'text' stands twice"):
        read(tmp_path, "meld")


def test_parquet_rows_are_counted_too(tmp_path):
    for split in ("train", "dev", "test"):
        parquet(tmp_path / f"meld/{split}.parquet", [*NAMED[:2], NAMED[2] | {"label": "glee"}])
    with pytest.raises(DataError, match=r"train\.parquet: row 3: unknown emotion 'glee'"):
        read(tmp_path, "meld")


def test_broken_files_and_missing_splits_are_told_at_the_call(tmp_path):
    jsonl(tmp_path / "meld/train.jsonl", NAMED)
    with pytest.raises(DataError, match="tables, but none of the dev split"):
        find_corpora(tmp_path)
    (tmp_path / "meld/dev.parquet").write_text("no Parquet")
    with pytest.raises(DataError, match=r"dev\.parquet: no Parquet file"):
        find_corpora(tmp_path)
    (tmp_path / "meld/dev.parquet").unlink()
    (tmp_path / "meld/train.jsonl").write_text("{]\n")
    with pytest.raises(DataError, match=r"train\.jsonl, line 1: not JSON"):
        find_corpora(tmp_path)


def test_a_split_column_without_rows_of_a_split(tmp_path):
    jsonl(tmp_path / "meld/all.jsonl", [row | {"split": "train"} for row in NAMED])
    with pytest.raises(DataError, match="no row of the dev split"):
        read(tmp_path, "meld")
    jsonl(tmp_path / "meld/all.jsonl", [NAMED[0] | {"split": "held out"}])
    with pytest.raises(DataError, match="unknown split 'held out'"):
        read(tmp_path, "meld")


def test_the_release_and_tables_at_once_are_refused(tmp_path):
    header = "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n"
    for split in ("train", "dev", "test"):
        jsonl(tmp_path / f"meld/{split}.jsonl", NAMED)
        (tmp_path / f"meld/{split}_sent_emo.csv").write_text(header + "Hi,Ann,joy,0,0\n")
    with pytest.raises(DataError, match=r"both the release of meld and tables \(dev.jsonl\)"):
        find_corpora(tmp_path)
