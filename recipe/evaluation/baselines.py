"""Baselines without a language model: what is trivial, under the same measures.

The majority class, and TF-IDF with multinomial logistic regression on the last utterance alone: with the
one before it, accuracy on MELD and EmoryNLP was no better. Both are trained per corpus on gold rows of the
training split. Not scikit-learn's, see `recipe.evaluation.measures`; but its formulas and defaults, so that
numbers can be compared with other people's.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.rows import gold_label
from recipe.evaluation.circularity import is_self_labelled
from rewards.parse import MAX_EMOTIONS

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Row = Mapping[str, Any]
#: Terms in fewer training utterances than this are left out.
_MIN_ROWS = 2
#: Weight of the squared norm in the loss, scikit-learn's C = 1. Not tuned.
_PENALTY = 1.0


def terms(text: str) -> list[str]:
    """Words, punctuation that carries feeling, and pairs of neighbours, case folded."""
    words = re.findall(r"\w+|[!?.…]+", text.casefold())
    return words + [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)]


@dataclass(frozen=True)
class TfIdf:
    """Term -> column and weight, from the training texts."""

    columns: dict[str, int]
    weights: np.ndarray

    @classmethod
    def fit(cls, texts: Sequence[Sequence[str]], min_rows: int = _MIN_ROWS) -> TfIdf:
        """idf(t) = ln((1 + n) / (1 + rows with t)) + 1, over terms in at least ``min_rows`` texts."""
        rows = Counter(term for text in texts for term in set(text))
        known = sorted(term for term, count in rows.items() if count >= min_rows)
        counts = np.array([rows[term] for term in known], dtype=float)
        return cls({t: i for i, t in enumerate(known)}, np.log((1 + len(texts)) / (1 + counts)) + 1)

    def transform(self, texts: Sequence[Sequence[str]]) -> csr_matrix:
        """Shape (texts, terms): count times idf, each row of Euclidean length 1 (or empty)."""
        from scipy.sparse import csr_matrix

        values: list[np.ndarray] = []
        columns: list[int] = []
        ends = [0]
        for text in texts:
            counts = Counter(self.columns[term] for term in text if term in self.columns)
            line = np.array(list(counts.values())) * self.weights[list(counts)] if counts else np.zeros(0)
            values.append(line / (np.linalg.norm(line) or 1.0))
            columns += counts
            ends.append(len(columns))
        return csr_matrix((np.concatenate(values), columns, ends), shape=(len(texts), len(self.columns)))


def fit_logistic(x: csr_matrix, y: np.ndarray, classes: int, penalty: float = _PENALTY) -> np.ndarray:
    """Multinomial logistic regression by L-BFGS.

    Minimises the summed cross-entropy plus ``penalty / 2`` times the squared norm of the weights; the
    intercepts are free.

    Args:
        x: shape (rows, features).
        y: class of each row, in [0, classes).

    Returns:
        Shape (features + 1, classes); the last row holds the intercepts.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    rows, features = x.shape
    target = np.zeros((rows, classes))
    target[np.arange(rows), y] = 1.0
    transposed = x.T.tocsr()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(features + 1, classes)
        scores = x @ w[:-1] + w[-1]
        log_p = scores - logsumexp(scores, axis=1, keepdims=True)
        error = np.exp(log_p) - target
        gradient = np.vstack([transposed @ error + penalty * w[:-1], error.sum(axis=0)])
        return -(log_p * target).sum() + penalty / 2 * (w[:-1] ** 2).sum(), gradient.ravel()

    start = np.zeros((features + 1) * classes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-6})
    return found.x.reshape(features + 1, classes)


def probabilities(x: csr_matrix, weights: np.ndarray) -> np.ndarray:
    """Shape (rows, classes), rows summing to 1."""
    from scipy.special import logsumexp

    scores = x @ weights[:-1] + weights[-1]
    return np.exp(scores - logsumexp(scores, axis=1, keepdims=True))


def majority_answers(train: Sequence[Row], test: Sequence[Row]) -> dict[str, str]:
    """row_id -> the corpus's most frequent training label, in the form of an answer."""
    answers: dict[str, str] = {}
    for _, known, asked in _per_corpus(train, test):
        label = Counter(known.values()).most_common(1)[0][0]
        answers |= {row["extra_info"]["row_id"]: _answer({label: 1.0}) for row in asked}
    return answers


@dataclass(frozen=True)
class Reader:
    """Logistic regression on TF-IDF, which reads an emotion from a text.

    Attributes:
        labels: those that occur in training, in the order of the weights' columns.
        terms: of the training texts.
        weights: of `fit_logistic`.
    """

    labels: list[str]
    terms: TfIdf
    weights: np.ndarray

    @classmethod
    def fit(cls, texts: Sequence[str], gold: Sequence[str]) -> Reader:
        """Train on texts and a label for each."""
        split = [terms(text) for text in texts]
        model, labels = TfIdf.fit(split), sorted(set(gold))
        y = np.array([labels.index(label) for label in gold])
        return cls(labels, model, fit_logistic(model.transform(split), y, len(labels)))

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Shape (texts, labels), rows summing to 1."""
        return probabilities(self.terms.transform([terms(text) for text in texts]), self.weights)


def readers(train: Sequence[Row]) -> dict[str, Reader]:
    """corpus -> a reader of its gold training utterances, each the last one of its prompt."""
    gold_rows = [row for row in train if not is_self_labelled(row)]
    return {
        rows[0]["data_source"]: Reader.fit([_last_text(row) for row in rows], list(gold.values()))
        for rows, gold, _ in _per_corpus(gold_rows, gold_rows)
    }


def tfidf_answers(train: Sequence[Row], test: Sequence[Row]) -> dict[str, str]:
    """row_id -> the three likeliest labels with their probabilities, in the form of an answer."""
    answers = {}
    for rows, gold, asked in _per_corpus(train, test):
        reader = Reader.fit([_last_text(row) for row in rows], list(gold.values()))
        for row, p in zip(asked, reader.probabilities([_last_text(row) for row in asked]), strict=True):
            best = sorted(range(len(reader.labels)), key=lambda i: -p[i])[:MAX_EMOTIONS]
            weights = {reader.labels[i]: min(float(p[i]), 1.0) for i in best}
            answers[row["extra_info"]["row_id"]] = _answer(weights)
    return answers


BASELINES = {"majority": majority_answers, "tfidf": tfidf_answers}


def _per_corpus(
    train: Sequence[Row], test: Sequence[Row]
) -> Iterator[tuple[list[Row], dict[str, str], list[Row]]]:
    """For every corpus of ``test``: gold training rows, their labels by row_id, and the test rows.

    Raises:
        ValueError: a corpus has no gold training row.
    """
    for corpus in sorted({row["data_source"] for row in test}):
        known = [r for r in train if r["data_source"] == corpus and not is_self_labelled(r)]
        if not known:
            raise ValueError(f"{corpus} has test rows but no training rows, so no baseline can be trained")
        gold = {r["extra_info"]["row_id"]: gold_label(r) for r in known}
        yield known, gold, [r for r in test if r["data_source"] == corpus]


def _last_text(row: Row) -> str:
    return row["extra_info"]["context"][-1]["text"]


def _answer(weights: Mapping[str, float]) -> str:
    """The weights as an answer that keeps the rule, so that it is scored like every other."""
    said = {"last_emotions": weights, "my_emotions": weights, "my_output": "(a baseline does not reply)"}
    return "<think></think>" + json.dumps(said)
