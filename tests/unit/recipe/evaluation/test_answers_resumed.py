"""Evaluation goes on where it stopped, also with other settings; the engine is a stand-in."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from recipe.evaluation import generate
from recipe.evaluation.answers import read_answers

ROWS = [{"extra_info": {"row_id": f"r{i}"}} for i in range(5)]


@pytest.fixture
def answered(monkeypatch, tmp_path):
    """Answers `ROWS` with these settings for at most so many batches; returns who was asked."""

    def answered(batch_rows: int, samples: int = 1, key: str = "k", batches: int = 9) -> list[str]:
        asked: list[str] = []

        @contextmanager
        def answering(config, checkpoint, sampling):
            def answer(rows):
                asked.extend(row["extra_info"]["row_id"] for row in rows)
                yield {name: [name] * sampling.n for name in asked[-len(rows) :]}

            yield answer

        monkeypatch.setattr(generate, "answering", answering)
        evaluate = SimpleNamespace(batch_rows=batch_rows, samples=samples, temperature=0.7)
        config, splits = SimpleNamespace(evaluate=evaluate), {"test": ROWS}
        done = generate._answer(config, splits, "model", tmp_path / "cold", key)
        for _ in zip(range(batches), done, strict=False):
            pass
        return asked

    return answered


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_another_size_of_batches_leaves_no_prompt_out_and_asks_none_twice(answered, tmp_path, size):
    assert answered(2, batches=1)[:2] == ["r0", "r1"]
    kept = set(read_answers(tmp_path / "cold/test", "k"))
    assert set(answered(size)) == {"r0", "r1", "r2", "r3", "r4"} - kept
    assert read_answers(tmp_path / "cold/test", "k") == {f"r{i}": [f"r{i}"] for i in range(5)}
    assert answered(size) == []


def test_answers_that_were_drawn_otherwise_do_not_count(answered, tmp_path):
    answered(2, batches=1)
    assert len(answered(5, samples=3, key="three")) == 5 and answered(5, samples=3, key="three") == []
    assert {len(texts) for texts in read_answers(tmp_path / "cold/test", "three").values()} == {3}
