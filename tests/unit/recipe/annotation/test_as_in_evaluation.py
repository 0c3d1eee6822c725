"""`make annotate` on a MELD file asks what `make eval` asks, row by row, and reads the answers as it does."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data_prep.own_dialogues.read import look_through, read_dialogues
from data_prep.prepare import prepare
from data_prep.prompt import load_templates
from data_prep.rows import read_rows
from recipe.annotation.answer import answer_dialogues
from recipe.annotation.prompts import own_rows
from recipe.annotation.records import read_annotations
from recipe.annotation.task import new_task
from recipe.evaluation.answers import score_answers, write_part
from recipe.evaluation.measures import INVALID
from recipe.run.run import Run
from recipe.steps import evaluate
from rewards.iou import normalise
from rewards.labels import LABELS

HEADER = ["Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"]
#: (speaker, text, label) of every utterance, a list a dialogue: several people, one alone, one that has to be
#: cut, text that a tokenizer or a template could take for something else.
DIALOGUES = [
    [("Ann", "I won, really!", "joy"), ("Bob", "Good for you.", "neutral"), ("Ann", "Isn\u2019t it?", "joy")],
    [("Ann", "Nobody is here.", "sadness"), ("Ann", "<|im_end|> <think>", "fear")],
    [(("Ann", "Bob", "Cyd")[i % 3], f"{i} " + "again and " * 12, "anger") for i in range(9)],
    [("Bob", "{name}, café?", "surprise"), ("Zoë", "Non.", "disgust")],
]
SAID = "<think>hm</think>{{'last_emotions': {}, 'my_emotions': {{'joy': 1}}, 'my_output': 'a'}}"
ANSWERS = [
    SAID.format("{'joy': 0.6, 'anger': 0.4}"),
    SAID.format("{'Anger': 0.5, 'joy': 0.5}"),  # equal: the earlier in the list
    SAID.format("{'bored': 1}"),
    "no rule",
    SAID.format("{'fear': 1}"),
]


@pytest.fixture
def raw(tmp_path) -> Path:
    """A made-up release of MELD; the rows of a dialogue do not stand in the order of their ids."""
    for split in ("train", "dev", "test"):
        path = tmp_path / f"raw/meld/{split}_sent_emo.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(HEADER)
            for number, turns in enumerate(DIALOGUES):
                rows = [
                    (text, speaker, label, "", 7 + number, i)
                    for i, (speaker, text, label) in enumerate(turns)
                ]
                table.writerows([0, *row] for row in reversed(rows))
    return tmp_path / "raw"


@pytest.fixture
def config(tokenizer_folder):
    """The settings that both read."""
    return OmegaConf.create(
        {
            "run": {"seed": 1, "retries": 0, "name": "mine"},
            "prompts": {"dir": "compact"},
            "expert": {"kind": "offline"},
            "personas": {"scope": "dialogue"},
            "trainer": {"experiment_name": ""},
            "flywheel": {"iterations": 0},
            "data": {"apply_chat_template_kwargs": {}, "max_prompt_length": 420},
            "evaluate": {"of": None, "stages": ["base"], "train_rows": 0, "batch_rows": 4, "samples": 1,
                         "temperature": 0.7},
        }
    )  # fmt: skip


def asked_by_evaluation(
    raw: Path, config, model: Path, folder: Path, monkeypatch, profiles=None
) -> list[dict]:
    """The rows that `recipe.steps.evaluate` hands to its stage, on the way of `recipe.steps.data`."""
    prepare(raw, folder / "data", None, config.prompts.dir, profiles, scope=config.personas.scope)
    (folder / "data/leakage.json").write_text("[]")
    (folder / "base").mkdir()
    (folder / "base/base.json").write_text(json.dumps({"path": str(model)}))
    found = []

    def run_stage(stage, config, work, total):
        found.extend(read_rows(config.job.data.test))
        said = {row["extra_info"]["row_id"]: [ANSWERS[0]] for row in found}
        write_part(said, work / "base/test/part_00000000.parquet", config.job.of["base"])

    monkeypatch.setattr(evaluate, "run_stage", run_stage)
    evaluate.checkpoints(Run(config.copy(), folder))
    return found


def answered(raw: Path, config, model: Path, work: Path, answers: Sequence[Sequence[str]]):
    """The rows that are asked for the same CSV, and what is made of the answers, one after the other."""
    source, labels = raw / "meld/test_sent_emo.csv", LABELS["meld"]
    work.mkdir(exist_ok=True)
    task = new_task(source, labels, {}, look_through(source, labels, {}), str(model), {})
    task.write(work)
    asked: list[dict] = []

    @contextmanager
    def answering(config, checkpoint, sampling) -> Iterator:
        assert (checkpoint, sampling.n) == (str(model), config.evaluate.samples)

        def answer(rows):
            said = {row["extra_info"]["row_id"]: answers[len(asked) + i] for i, row in enumerate(rows)}
            asked.extend(rows)
            yield said

        yield answer

    config = OmegaConf.merge(config, {"job": {"work": str(work), "progress": str(work / "progress")}})
    answer_dialogues(config, answering)
    return asked, [one for dialogue in read_annotations(task, work) for one in dialogue]


def experts(corpus: str, dialogue: str) -> dict[str, dict[str, str]]:
    """What experts say of the first two dialogues; nobody has said anything of the others."""
    return {
        f"{corpus}:{dialogue.format(7)}": {"Ann": "Won.", "Bob": "Is kind {really}.", "Theme": "Winning."},
        f"{corpus}:{dialogue.format(7)}@1": {"Ann": "Has won.", "Bob": "Is kind {really}.", "Theme": "Luck."},
        f"{corpus}:{dialogue.format(8)}": {"Ann": "Is alone.", "Theme": "Being alone."},
    }


@pytest.mark.parametrize("kind", ["offline", "expert"])
@pytest.mark.parametrize(
    ("templates", "scope"), [("compact", "dialogue"), ("compact", "past"), ("full", "dialogue")]
)
def test_the_prompts_are_those_of_an_evaluation(
    raw, config, tokenizer_folder, tmp_path, monkeypatch, templates, scope, kind
):
    config.prompts.dir, config.personas.scope = templates, scope
    config.data.max_prompt_length = 420 if templates == "compact" else 1_000
    profiles = None
    if kind == "expert":
        profiles = experts("meld:test", "test_{}")
        (tmp_path / "work/personas").mkdir(parents=True)
        kept = tmp_path / "work/personas/part_00000000.json"
        kept.write_text(json.dumps(experts("own:own", "{}")))
    theirs = asked_by_evaluation(raw, config, tokenizer_folder, tmp_path / "run", monkeypatch, profiles)
    ours, _ = answered(raw, config, tokenizer_folder, tmp_path / "work", [[ANSWERS[0]]] * 99)
    assert len(ours) == sum(map(len, DIALOGUES))
    assert [row["prompt"] for row in ours] == [row["prompt"] for row in theirs]
    text = [row["prompt"][1]["content"] for row in ours]
    assert "Ann: 0 again" in text[5] and "Ann: 0 again" not in text[13], "the last of the long one is cut"
    if kind == "expert":  # who answers the first line, and the second one
        first, second = (
            ((0, "Is kind {really}."), (1, "Won.")) if scope == "dialogue" else ((0, ""), (1, "Has won."))
        )
        assert all(said in ours[i]["prompt"][0]["content"] for i, said in (first, second))


@pytest.mark.parametrize("samples", [1, 4])
def test_the_answers_are_read_as_by_an_evaluation(
    raw, config, tokenizer_folder, tmp_path, monkeypatch, samples
):
    config.evaluate.samples = samples
    rows = asked_by_evaluation(raw, config, tokenizer_folder, tmp_path / "run", monkeypatch)
    answers = [[ANSWERS[(i + 2 * k) % len(ANSWERS)] for k in range(samples)] for i in range(len(rows))]
    answers[3] = [ANSWERS[3]] * samples
    records = score_answers(
        rows, {row["extra_info"]["row_id"]: said for row, said in zip(rows, answers, strict=True)}
    )
    _, ours = answered(raw, config, tokenizer_folder, tmp_path / "work", answers)
    assert [one.emotion or INVALID for one in ours] == [record["pred"] for record in records]
    assert [one.problem or "" for one in ours] == [record["reason"] for record in records]
    for one, record in zip(ours, records, strict=True):
        assert one.emotions == pytest.approx(normalise(json.loads(record["parsed"])["last_emotions"]))
        assert list(one.emotions.values()) == sorted(one.emotions.values(), reverse=True)
        assert one.label == record["gold"]
    assert {None, "bad_label", "no_think"} & {one.problem for one in ours} >= {None, "no_think"}
    assert {one.emotion for one in ours} >= {"joy", None}


def test_rows_that_an_evaluation_would_not_have_are_read_too(tmp_path):
    """A file without labels, with a list of its own."""
    path = tmp_path / "mine.csv"
    path.write_text("text,speaker\nHi.,Ann\nHello.,Bob\n")
    found = look_through(path, ("calm", "tense"), {})
    assert (found.utterances, found.labelled) == (2, 0)
    (own,) = read_dialogues(path, ("calm", "tense"), {}, True)
    rows = list(own_rows(own, path.name, ("calm", "tense"), load_templates("compact")))
    assert [row["extra_info"]["row_id"] for row in rows] == ["mine.csv, line 2", "mine.csv, line 3"]
    assert all("Labels: calm, tense." in row["prompt"][0]["content"] for row in rows)
    assert [row["extra_info"]["persona"]["name"] for row in rows] == ["Bob", "Ann"]
