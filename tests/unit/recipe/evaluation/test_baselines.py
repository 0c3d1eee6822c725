"""TF-IDF by hand, logistic regression against another optimiser and on a separable problem."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from data_prep.rows import read_rows, write_rows
from recipe.evaluation.answers import score_answers
from recipe.evaluation.baselines import (
    TfIdf,
    fit_logistic,
    majority_answers,
    probabilities,
    terms,
    tfidf_answers,
)
from recipe.evaluation.results import read_evaluation
from recipe.steps import evaluate
from rewards.labels import LABELS
from rewards.parse import parse_output


def test_terms_are_words_marks_and_pairs():
    assert terms("Oh no, NO!") == ["oh", "no", "no", "!", "oh no", "no no", "no !"]
    assert terms("") == []


def test_tfidf_by_hand():
    texts = [["a", "a", "b"], ["a", "c"], ["b", "d"]]
    model = TfIdf.fit(texts, min_rows=2)
    assert list(model.columns) == ["a", "b"]  # c and d stand in one text alone
    idf = math.log(4 / 3) + 1
    assert model.weights == pytest.approx([idf, idf])
    found = model.transform([*texts, ["z"]]).toarray()
    length = math.sqrt((2 * idf) ** 2 + idf**2)
    assert found == pytest.approx(np.array([[2 * idf / length, idf / length], [1, 0], [0, 1], [0, 0]]))
    rare = TfIdf.fit([["a", "b"], ["a"]], min_rows=1)
    assert rare.weights == pytest.approx([1.0, math.log(3 / 2) + 1])  # in every text: 1; in one of two


def test_a_separable_problem_is_learned():
    x = csr_matrix(np.array([[1.0, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0.8, 0], [0, 0, 1], [0, 0, 2]]))
    y = np.array([0, 0, 1, 1, 2, 2])
    p = probabilities(x, fit_logistic(x, y, 3, penalty=0.01))
    assert (p.argmax(axis=1) == y).all() and p.sum(axis=1) == pytest.approx(1) and p.max(axis=1).min() > 0.8


def test_the_fit_is_the_minimum_that_a_search_without_gradients_finds():
    draw = np.random.default_rng(3)
    x, y = draw.normal(size=(30, 2)), draw.integers(0, 2, size=30)

    def loss(w):  # two classes: only the difference of their weights matters, each holds half of it
        margin = (2 * y - 1) * (x @ w[:2] + w[2])
        return np.log1p(np.exp(-margin)).sum() + 1.0 / 2 * (w[:2] @ w[:2]) / 2

    expected = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}).x
    found = fit_logistic(csr_matrix(x), y, 2)
    assert found[:, 1] - found[:, 0] == pytest.approx(expected, abs=0.01)


@pytest.fixture
def corpus(make_prompt_row):
    """Rows whose last word gives the label away, most of them neutral."""

    def rows(count: int, **more):
        words = ["fine", "fine", "fine", "wow", "hate"]
        labels = {"fine": "neutral", "wow": "surprise", "hate": "anger"}
        return [
            make_prompt_row(
                f"{i}", turns=(("Ann", "hate wow"), ("Bob", f"it is {words[i % 5]}")),
                label={labels[words[i % 5]]: 1.0}, **more,
            )
            for i in range(count)
        ]  # fmt: skip

    return rows


def listed(answers: dict[str, str]) -> dict[str, list[str]]:
    return {row_id: [text] for row_id, text in answers.items()}


def test_baselines_answer_every_test_row_and_keep_the_rule(corpus):
    train, test = corpus(100), corpus(10)
    wrong = corpus(500, lineage={"origin": "self_play"})  # self-labelled rows teach no baseline
    for row in wrong:
        row["reward_model"]["ground_truth"] = {"fear": 1.0}
    majority = score_answers(test, listed(majority_answers(train + wrong, test)))
    assert {r["pred"] for r in majority} == {"neutral"} and sum(r["acc"] for r in majority) == 6
    answers = tfidf_answers(train + wrong, test)
    assert [r["acc"] for r in score_answers(test, listed(answers))] == [1.0] * 10
    said = parse_output(answers["3"], LABELS["meld"])
    assert said.valid and len(said.last_emotions) == 3
    assert math.fsum(json.loads(json.dumps(said.last_emotions)).values()) == pytest.approx(1)


def test_a_corpus_without_training_rows_has_no_baseline(corpus, make_prompt_row):
    with pytest.raises(ValueError, match="emorynlp has test rows but no training rows"):
        majority_answers(corpus(5), [make_prompt_row("e", corpus="emorynlp")])


@pytest.fixture
def run(tmp_path):
    """A run whose data step is done."""
    from omegaconf import OmegaConf

    from recipe.run.run import Run
    from tests.unit.fake_run import prompts

    for split in ("train", "test"):
        write_rows(prompts(split, 6), tmp_path / f"data/{split}.parquet")
    (tmp_path / "data/leakage.json").write_text("[]")
    settings = {"prompts": {"dir": "compact"}, "expert": {"kind": "offline"}, "run": {"retries": 0}}
    config = OmegaConf.create(settings)
    return Run(config, tmp_path)


def test_the_flywheel_scores_the_baselines_once(run):
    evaluate.baselines(run)
    tables = read_evaluation(run.folder, "summary")
    assert list(tables) == ["majority", "tfidf"] and tables["tfidf"]["avg"]["n"] == 18
    before = (run.folder / "state.json").read_text()
    evaluate.baselines(run)
    assert (run.folder / "state.json").read_text() == before


def test_a_run_goes_on_without_a_baseline_that_cannot_be(run, capsys):
    path = run.folder / "data/train.parquet"
    write_rows([row for row in read_rows(path) if row["data_source"] != "meld"], path)
    evaluate.baselines(run)
    assert "no tfidf baseline: meld has test rows but no training rows" in capsys.readouterr().out
    assert read_evaluation(run.folder, "summary") == {}
