"""Predictions of every row, under the ids of the corpora's releases."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from data_prep.corpora import read_corpora
from data_prep.prepare import dialogue_rows
from data_prep.prompt import load_templates
from recipe.evaluation.answers import score_answers
from recipe.evaluation.predictions import official_ids, write_predictions
from tests.unit.samples import SAMPLES

SAID = (
    "<think>a</think>{'last_emotions': {'joy': 0.3, 'fear': 0.6}, "
    "'my_emotions': {'joy': 1}, 'my_output': 'a'}"
)


def test_every_row_of_a_release_has_its_own_ids(tmp_path):
    templates = load_templates("compact")
    rows = [row for d in read_corpora(SAMPLES, splits=["test"]) for row in dialogue_rows(d, templates)]
    answers = {row["extra_info"]["row_id"]: ["fear"] for row in rows}
    write_predictions(rows, score_answers(rows, answers), tmp_path)
    found = {path.stem: pq.read_table(path).to_pylist() for path in tmp_path.iterdir()}
    keys = {
        "meld": ("split", "Dialogue_ID", "Utterance_ID"),
        "emorynlp": ("split", "Season", "Episode", "Scene_ID", "Utterance_ID"),
        "iemocap": ("split", "dialogue", "utterance"),
    }
    assert found.keys() == keys.keys()
    for corpus, names in keys.items():
        of_corpus = [row["extra_info"] for row in rows if row["data_source"] == corpus]
        ids = [tuple(row[name] for name in names) for row in found[corpus]]
        assert len(set(ids)) == len(ids) == len(of_corpus)
        assert all(tuple(row)[: len(names)] == names for row in found[corpus])
        for (split, *parts), info in zip(ids, of_corpus, strict=True):
            given = info["dialogue_id"] if corpus == "iemocap" else info["dialogue_id"].split("_", 1)[1]
            assert split == "test" and "_".join(map(str, parts[:-1])) == given
            assert str(parts[-1]) == info["utterance_id"]
            assert all(isinstance(part, str if corpus == "iemocap" else int) for part in parts)


def test_what_was_predicted(tmp_path, make_prompt_row):
    rows = [make_prompt_row(name, label={"joy": 1.0}) for name in ("kept", "broken")]
    records = score_answers(rows, {"kept": [SAID], "broken": ["joy"]})
    write_predictions(rows, records, tmp_path)
    kept, broken = pq.read_table(tmp_path / "meld.parquet").to_pylist()
    assert (kept["gold"], kept["predicted"], kept["nearest"], kept["valid"]) == ("joy", "fear", "fear", True)
    assert [entry["label"] for entry in kept["weights"]] == ["fear", "joy"]
    assert [entry["weight"] for entry in kept["weights"]] == pytest.approx([2 / 3, 1 / 3])
    assert (kept["reward"], kept["answer"], kept["reason"]) == (records[0]["score"], SAID, None)
    assert (broken["predicted"], broken["nearest"], broken["valid"]) == (None, "joy", False)
    assert (broken["reason"], broken["weights"], broken["reward"]) == ("no_think", [], 0.0)


def test_tables_that_name_dialogues_in_their_own_way_keep_their_names():
    rows = [
        {"split": "test", "dialogue_id": f"test_{d}", "utterance_id": u}
        for d, u in (("a_b", "1"), ("7", "2"))
    ]
    assert list(official_ids("emorynlp", rows)) == [
        {"dialogue_id": "a_b", "utterance_id": 1},
        {"dialogue_id": "7", "utterance_id": 2},
    ]
    assert list(official_ids("meld", rows))[0] == {"Dialogue_ID": "a_b", "Utterance_ID": 1}
    assert list(official_ids("somebodys", rows))[1] == {"dialogue_id": "7", "utterance_id": 2}
    assert list(official_ids("meld", [])) == []
