"""Answers that were there before a stop are not asked for again; what cannot be asked is told."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
from omegaconf import OmegaConf

from data_prep.own_dialogues.read import look_through
from recipe.annotation.answer import answer_dialogues, answered_parts, dialogues_in, rows_in
from recipe.annotation.records import TOO_LONG, read_annotations
from recipe.annotation.task import new_task, read_labels
from rewards.labels import known_corpora

SAID = "<think>x</think>{'last_emotions': {'calm': 1}, 'my_emotions': {'calm': 1}, 'my_output': 'a'}"
LABELS = ("calm", "tense")


class Asked:
    """A checkpoint that stops after so many batches; it knows the last line of each prompt that it saw."""

    def __init__(self):
        self.batches: list[list[str]] = []
        self.most, self.loaded = 99, 0

    @contextmanager
    def answering(self, *_):
        self.loaded += 1

        def answer(rows):
            if len(self.batches) == self.most:
                raise RuntimeError("stopped")
            self.batches.append([row["extra_info"]["context"][-1]["text"] for row in rows])
            yield {row["extra_info"]["row_id"]: [SAID] for row in rows}

        yield answer


@pytest.fixture
def job(tmp_path, tokenizer_folder):
    """Writes dialogues of so many utterances; gives the task, its folder and the settings."""

    def make(*sizes: int, of: str = "this", most: int = 200):
        path = tmp_path / "mine.csv"
        lines = [f"{d}.{u},{d}" for d, size in enumerate(sizes) for u in range(size)]
        path.write_text("\n".join(["text,dialogue_id", *lines]) + "\n")
        task = new_task(path, LABELS, {}, look_through(path, LABELS, {}), str(tokenizer_folder), {"is": of})
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        task.write(work)
        config = {
            "prompts": {"dir": "compact"}, "personas": {"scope": "dialogue"},
            "data": {"apply_chat_template_kwargs": {}, "max_prompt_length": most},
            "evaluate": {"batch_rows": 2, "samples": 1, "temperature": 0.7},
            "job": {"work": str(work), "progress": str(tmp_path / "progress")},
        }  # fmt: skip
        return task, work, OmegaConf.create(config)

    return make


@pytest.mark.parametrize("corpus", ["meld", "dailydialog"])
def test_labels_by_the_name_of_a_corpus(corpus):
    assert read_labels(corpus.upper(), "meld") == read_labels(None, corpus) == known_corpora()[corpus]


@pytest.mark.parametrize("labels", ["calm,\u3164", "calm,\u2800", "meld,emorynlp", "calm,MELD"])
def test_labels_that_cannot_be_seen_or_are_corpora(labels):
    with pytest.raises(ValueError, match="(?i)is no label|names the corpus meld among others"):
        read_labels(labels, "meld")


def test_a_stopped_command_goes_on_with_the_dialogues_that_are_not_finished(job, tmp_path):
    task, work, config = job(1, 2, 3, 1, 1)
    asked = Asked()
    asked.most = 3
    with pytest.raises(RuntimeError, match="stopped"):
        answer_dialogues(config, asked.answering)
    # Dialogues 0 and 1 are a part; of 2, which stands alone, only two of three utterances were answered.
    assert asked.batches == [["0.0", "1.0"], ["1.1"], ["2.0", "2.1"]]
    parts = answered_parts(work / "answers", task.key)
    assert (dialogues_in(parts), rows_in(parts)) == (2, 3)
    asked.most, config.evaluate.batch_rows = 99, 3  # batches may be larger when it goes on
    answer_dialogues(config, asked.answering)
    assert asked.batches[3:] == [["2.0", "2.1", "2.2"], ["3.0", "4.0"]]
    found = [one for dialogue in read_annotations(task, work) for one in dialogue]
    assert [one.text for one in found] == ["0.0", "1.0", "1.1", "2.0", "2.1", "2.2", "3.0", "4.0"]
    assert {(one.emotion, one.problem) for one in found} == {("calm", None)}
    steps = [json.loads(line)["step"] for line in (tmp_path / "progress").read_text().splitlines()]
    assert steps == [2, 3, 5, 6, 8]
    answer_dialogues(config, asked.answering)
    assert (len(asked.batches), asked.loaded) == (5, 2), "nothing is left, so no checkpoint is loaded"


def test_answers_to_something_else_do_not_count(job):
    first = Asked()
    answer_dialogues(job(2, 2)[2], first.answering)
    task, work, config = job(2, 2, of="another")
    assert answered_parts(work / "answers", task.key) == []
    with pytest.raises(ValueError, match="is not what was asked; the file has changed"):
        list(read_annotations(task, work))
    again = Asked()
    answer_dialogues(config, again.answering)
    assert again.batches == first.batches != []


def test_a_missing_part_is_asked_for_again_with_those_behind_it(job):
    task, work, config = job(2, 2, 2)
    answer_dialogues(config, Asked().answering)
    (work / "answers/part_000000001_000000002.parquet").unlink()
    again = Asked()
    answer_dialogues(config, again.answering)
    assert again.batches == [["1.0", "1.1"], ["2.0", "2.1"]]
    assert len(list(read_annotations(task, work))) == 3


def test_what_does_not_fit_is_told_and_the_others_are_asked(job, tmp_path):
    task, work, config = job(2, 1)
    source = tmp_path / "mine.csv"
    source.write_text(source.read_text().replace("0.1", "0.1 " + "and so on " * 60))
    asked = Asked()
    answer_dialogues(config, asked.answering)
    assert [text for batch in asked.batches for text in batch] == ["0.0", "1.0"]
    found = [one for dialogue in read_annotations(task, work) for one in dialogue]
    assert [(one.problem, one.emotion, one.answers) for one in found] == [
        (None, "calm", [SAID]),
        (TOO_LONG, None, []),
        (None, "calm", [SAID]),
    ]


def test_a_file_of_which_nothing_fits_is_told_so(job):
    task, work, config = job(1, 1, most=3)
    asked = Asked()
    answer_dialogues(config, asked.answering)
    found = [one for dialogue in read_annotations(task, work) for one in dialogue]
    assert [one.problem for one in found] == [TOO_LONG, TOO_LONG]
