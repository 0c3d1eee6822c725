"""The tasks of lm-evaluation-harness: their rows and scores are those of `make eval`, their YAML fits them.

The harness itself is not in this environment; integrations/lm_eval/README.md says what a run of it gave.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from data_prep.rows import read_rows, write_rows
from integrations.lm_eval import rows
from rewards.iou import compute_score
from rewards.labels import LABELS

FOLDER = Path(rows.__file__).parent
TASKS = [FOLDER / f"self_emo_{corpus}.yaml" for corpus in LABELS]


@pytest.fixture
def prepared(tmp_path, make_prompt_row, monkeypatch):
    """A folder of `make data`, with rows of two corpora, one of them with a soft label."""
    found = [
        make_prompt_row("a", label={"joy": 1.0}),
        make_prompt_row("b", label={"Sad": 1.0}, corpus="emorynlp"),
        make_prompt_row("c", label={"sadness": 0.75, "anger": 0.25}),
    ]
    write_rows(found, tmp_path / "test.parquet")
    monkeypatch.setenv(rows.FOLDER, str(tmp_path))
    return read_rows(tmp_path / "test.parquet")


def test_a_task_has_the_corpus_s_rows_with_the_prompts_as_they_are(prepared):
    documents = list(rows.load(corpus="meld", version=1.0)["test"])
    assert [d["label"] for d in documents] == ["joy", "sadness"]
    for document, row in zip(documents, (prepared[0], prepared[2]), strict=True):
        asked = [
            {"role": "system", "content": document["system"]},
            {"role": "user", "content": document["user"]},
        ]
        assert asked == row["prompt"] and document["row_id"] == row["extra_info"]["row_id"]


@pytest.mark.parametrize(
    "answer",
    [
        "<think>Hm.</think>{'last_emotions': {'sadness': 0.7, 'joy': 0.3}, 'my_emotions': {'joy': 1}, "
        "'my_output': 'Oh.'}",
        "<think>Hm.</think>{'last_emotions': {'joy': 1.0}, 'my_emotions': {'joy': 1}, 'my_output': 'Oh.'}",
        "joy",
    ],
)
def test_scores_are_the_recipe_s(prepared, answer):
    for document, row in zip(rows.load(corpus="meld")["test"], (prepared[0], prepared[2]), strict=True):
        expected = compute_score("meld", answer, row["reward_model"]["ground_truth"])
        found = rows.score(document, [answer])
        assert found == {"acc": expected["acc"], "reward": expected["score"], "valid": expected["valid"]}


def test_what_is_missing_is_told(prepared, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="has no row of iemocap: set SELF_EMO_DATA"):
        rows.load(corpus="iemocap")
    (tmp_path / "other").mkdir()
    pq.write_table(pa.table({"text": ["Hi."]}), tmp_path / "other/test.parquet")
    monkeypatch.setenv(rows.FOLDER, str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"other/test\.parquet is no file of prompts .*: set SELF_EMO_DATA"):
        rows.load(corpus="meld")
    monkeypatch.setenv(rows.FOLDER, str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"there is no .*none/test\.parquet: set SELF_EMO_DATA"):
        rows.load(corpus="meld")
    monkeypatch.delenv(rows.FOLDER)
    with pytest.raises(ValueError, match="no folder of prompts is named: set SELF_EMO_DATA"):
        rows.load(corpus="meld")


class _Loader(yaml.SafeLoader):
    """YAML with the harness's tag for functions of a module beside the file."""


def _function(_, node):
    module, name = node.value.split(".")
    return getattr(importlib.import_module(f"integrations.lm_eval.{module}"), name)


_Loader.add_constructor("!function", _function)


def test_the_yaml_names_what_is_there(prepared):
    shared = yaml.load((FOLDER / "_self_emo.yaml").read_text(), _Loader)
    assert shared["custom_dataset"] is rows.load and shared["process_results"] is rows.score
    tasks = [yaml.load(path.read_text(), _Loader) for path in TASKS]
    assert all((FOLDER / task["include"]).is_file() for task in tasks)
    assert [task["dataset_kwargs"]["corpus"] for task in tasks] == list(LABELS)
    group = yaml.load((FOLDER / "self_emo.yaml").read_text(), _Loader)
    assert sorted(group["task"]) == sorted(task["task"] for task in tasks)
    document = rows.load(corpus="meld")["test"][0]
    templates = [shared[name] for name in ("description", "doc_to_text", "doc_to_target")]
    written = [jinja2.Template(template).render(document) for template in templates]
    assert written == [document["system"], document["user"], "joy"]
    measured = {metric["metric"] for metric in shared["metric_list"]}
    assert measured == rows.score(document, ["joy"]).keys()
    assert measured == {metric["metric"] for metric in group["aggregate_metric_list"]}
