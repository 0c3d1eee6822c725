"""Which prompts a checkpoint is asked, and that what was answered before a stop is not asked again."""

from __future__ import annotations

from contextlib import contextmanager

from omegaconf import OmegaConf

from data_prep.rows import write_rows
from recipe.evaluation import generate
from recipe.evaluation.answers import read_answers


def test_splits_are_answered_apart_and_go_on_after_a_stop(tmp_path, monkeypatch, make_prompt_row):
    for name, count in (("test", 5), ("train", 3)):
        write_rows([make_prompt_row(f"{name}:{i}") for i in range(count)], tmp_path / f"{name}.parquet")
    config = OmegaConf.create(
        {
            "run": {"seed": 1},
            "data": {"apply_chat_template_kwargs": {}},
            "evaluate": {"batch_rows": 2, "samples": 1, "temperature": 0.7, "entropy_rows": 2},
            "job": {
                "data": {name: str(tmp_path / f"{name}.parquet") for name in ("test", "train")},
                "out": str(tmp_path),
                "models": {"cold": "c"},
                "of": {"cold": "key"},
            },
        }
    )
    asked, measured, most = [], [], 3

    @contextmanager
    def answering(config, checkpoint, sampling):
        def answer(rows):
            if len(asked) >= most:
                raise RuntimeError("stopped")
            asked.append([row["extra_info"]["row_id"] for row in rows])
            yield {name: [f"said by {checkpoint}"] for name in asked[-1]}

        yield answer

    def measure(model, rows, answers, options):
        measured.extend(row["extra_info"]["row_id"] for row in rows)
        return {"answers": len(rows)}

    monkeypatch.setattr(generate, "answering", answering)
    monkeypatch.setattr(generate.entropy, "measure", measure)
    try:
        generate.generate_answers(config)
    except RuntimeError:
        most = 99
    generate.generate_answers(config)
    test, train = [f"test:{i}" for i in range(5)], [f"train:{i}" for i in range(3)]
    assert asked == [test[:2], test[2:4], test[4:], train[:2], train[2:]]
    assert read_answers(tmp_path / "cold/train") == {name: ["said by c"] for name in train}
    assert set(read_answers(tmp_path / "cold/test")) == set(test)
    assert len(measured) == 2 and all(name.startswith("test:") for name in measured)
    steps = [line.split(",")[0] for line in (tmp_path / "metrics.part.jsonl").read_text().splitlines()]
    assert steps == [f'{{"step": {done}' for done in (2, 4, 5, 7, 8)]
