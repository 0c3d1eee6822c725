"""EmoryNLP's own JSON, on a file of the tests' own in the published form."""

from __future__ import annotations

import copy
import json

import pytest

from data_prep.corpora import emorynlp, emorynlp_json, find_corpora, read_corpora
from data_prep.corpora.dialogue import DataError, Utterance


def utterance(name: str, speakers, transcript: str, emotion: str) -> dict:
    tokens = [transcript.split()]
    return {
        "utterance_id": name, "speakers": speakers, "transcript": transcript, "tokens": tokens,
        "emotion": emotion,
    }  # fmt: skip


DOCUMENT = {
    "season_id": "trn",
    "episodes": [
        {
            "episode_id": "s01_e02",
            "scenes": [
                {
                    "scene_id": "s01_e02_c01",
                    "utterances": [
                        utterance("s01_e02_c01_u002", ["Ada B"], "We  are late.", "Scared"),
                        utterance("s01_e02_c01_u005", ["Ada B", "Bob C"], "Run!", "joyful"),
                    ],
                },
                {
                    "scene_id": "s01_e02_c10",
                    "utterances": [utterance("s01_e02_c10_u001", ["Cyd"], "Caf\u00e9?", "Neutral")],
                },
            ],
        },
        {
            "episode_id": "s04_e11",
            "scenes": [
                {
                    "scene_id": "s04_e11_c01",
                    "utterances": [utterance("s04_e11_c01_u001", ["Ada B"], "Good.", "Peaceful")],
                }
            ],
        },
    ],
}
NAME = "emotion-detection-trn.json"


def write(folder, document, name: str = NAME):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    text = document if isinstance(document, str) else json.dumps(document, indent=2, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


def test_scenes_become_dialogues_with_the_ids_of_the_csv(tmp_path):
    first, second, third = emorynlp_json.read_split(write(tmp_path, DOCUMENT), "train")
    assert [d.dialogue_id for d in (first, second, third)] == ["train_1_2_1", "train_1_2_10", "train_4_11_1"]
    assert {(d.corpus, d.split) for d in (first, second, third)} == {("emorynlp", "train")}
    assert first.utterances == (
        Utterance("2", "Ada B", "We are late.", "Scared"),
        Utterance("5", "Ada B and Bob C", "Run!", "Joyful"),
    )
    assert second.utterances[0].text == "Caf\u00e9?"
    rows = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode\n"
    rows += "We are late.,['Ada B'],Scared,1,2,1,2\nRun!,\"['Ada B', 'Bob C']\",Joyful,1,5,1,2\n"
    assert list(emorynlp.read_split(write(tmp_path, rows, "a.csv"), "train")) == [first]
    mixed = changed(lambda d, s, u: s["utterances"].reverse())
    assert next(emorynlp_json.read_split(write(tmp_path, mixed), "train")) == first


def test_a_person_who_is_named_twice_is_one(tmp_path):
    document = changed(lambda d, s, u: u.update(speakers=["Ada B", "Ada B\u200b"]))
    assert next(emorynlp_json.read_split(write(tmp_path, document), "train")).utterances[0].speaker == "Ada B"
    document = json.dumps(DOCUMENT).replace('"emotion": "Scared"', '"emotion": "Scared", "emotion": "Sad"')
    with pytest.raises(DataError, match="the key 'emotion' stands twice"):
        list(emorynlp_json.read_split(write(tmp_path, document), "train"))


def changed(change) -> dict:
    document = copy.deepcopy(DOCUMENT)
    scene = document["episodes"][0]["scenes"][0]
    change(document, scene, scene["utterances"][1])
    return document


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d, s, u: u.update(emotion="Bored"), "unknown emotion 'Bored'; expected one of Joyful, "),
        (lambda d, s, u: u.pop("emotion"), "'emotion' is missing or no text"),
        (lambda d, s, u: u.update(emotion=["Sad"]), "'emotion' is missing or no text"),
        (lambda d, s, u: u.update(transcript="  "), "empty utterance s01_e02_c01_u005"),
        (lambda d, s, u: u.update(transcript="Hi\ufffd"), "unreadable character U+FFFD"),
        (lambda d, s, u: u.update(speakers=[]), "s01_e02_c01_u005 has no speaker"),
        (lambda d, s, u: u.update(speakers=["Ada", " "]), "has no speaker"),
        (lambda d, s, u: u.update(speakers="Ada"), "is no list of names"),
        (lambda d, s, u: u.update(speakers=[7]), "is no list of names"),
        (lambda d, s, u: u.update(utterance_id="s01_e02_c02_u005"), "is no utterance id of scene"),
        (lambda d, s, u: u.update(utterance_id="u5"), "is no utterance id of scene"),
        (lambda d, s, u: u.update(utterance_id="s01_e02_c01_u002"), "duplicate utterance_id"),
        (lambda d, s, u: u.update(utterance_id=5), "'utterance_id' is missing or no text"),
        (lambda d, s, u: s["utterances"].append("x"), "'utterance_id' is missing or no text"),
        (lambda d, s, u: s.update(utterances=[]), "'utterances' is no list with something in it"),
        (lambda d, s, u: s.pop("utterances"), "'utterances' is no list"),
        (lambda d, s, u: s.update(scene_id="c01"), "scene_id 'c01' is no scene id"),
        (lambda d, s, u: s.update(scene_id="s01_e02_c10"), "'s01_e02_c10' stands in the file twice"),
        (lambda d, s, u: s.pop("scene_id"), "'scene_id' is missing or no text"),
        (lambda d, s, u: d["episodes"][1].update(scenes={}), "'scenes' is no list"),
        (lambda d, s, u: d.update(episodes=[]), "'episodes' is no list"),
    ],
)
def test_what_cannot_be_used_is_an_error(tmp_path, change, said):
    document = changed(change)
    if said.startswith("'s01_e02_c10'"):  # its utterances, too, so that only the scene is at fault
        for item in document["episodes"][0]["scenes"][0]["utterances"]:
            item["utterance_id"] = item["utterance_id"].replace("c01", "c10")
    with pytest.raises(DataError) as caught:
        list(emorynlp_json.read_split(write(tmp_path, document), "train"))
    assert said in str(caught.value) and f"{NAME}, line " in str(caught.value)


def test_the_line_is_the_one_of_the_id(tmp_path):
    path = write(tmp_path, changed(lambda d, s, u: u.update(emotion="Bored")))
    with pytest.raises(DataError) as caught:
        list(emorynlp_json.read_split(path, "train"))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert '"s01_e02_c01_u005"' in lines[caught.value.line - 1]


@pytest.mark.parametrize(
    ("content", "line"), [("", 1), ('{\n"episodes": [', 2), ("[]", 1), ("7", 1), ('{"episodes": 7}', 1)]
)
def test_a_file_of_another_kind(tmp_path, content, line):
    with pytest.raises(DataError) as caught:
        list(emorynlp_json.read_split(write(tmp_path, content), "train"))
    assert caught.value.line == line and NAME in caught.value.path


def test_it_is_found_where_the_csv_would_be(tmp_path):
    for short in ("trn", "dev", "tst"):
        write(tmp_path / "emorynlp", DOCUMENT, f"emotion-detection-{short}.json")
    assert [(d.split, d.dialogue_id) for d in read_corpora(tmp_path)][:4] == [
        ("train", "train_1_2_1"), ("train", "train_1_2_10"), ("train", "train_4_11_1"), ("dev", "dev_1_2_1")
    ]  # fmt: skip
    write(tmp_path / "emorynlp", "x", "emorynlp_dev_final.csv")
    with pytest.raises(DataError, match="both the CSV files and the JSON files .* move one of the two away"):
        find_corpora(tmp_path)
    (tmp_path / "emorynlp/emorynlp_dev_final.csv").unlink()
    (tmp_path / "emorynlp/emotion-detection-tst.json").unlink()
    with pytest.raises(DataError, match="emotion-detection-tst.json: no such file"):
        find_corpora(tmp_path)
