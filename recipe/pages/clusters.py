"""Persona clusters on a page, and what a run's checkpoints earn in each of them (Fig. 4, Tables 3, 6, 7).

`make clusters RUN=<name>` or `make clusters DATA=<folder of make data>`; runs in `.venv-analysis`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data_prep import persona_clusters as clusters
from data_prep.disk import in_words
from data_prep.files import write_json, write_text
from recipe.evaluation.results import read_evaluation
from recipe.pages import figures
from recipe.pages.render import render_page
from recipe.run.files import read_json, run_folder

#: Clusters of their own colour in the picture, as in Fig. 4.
SHOWN = 12
#: Dots of the picture; of more distinct sentences, evenly spaced ones are drawn.
DOTS = 3_000
_MEASURES = {"iou": "iou", "reward": "score", "accuracy": "acc"}  # the table's name -> the records'


def played_personas(test: str | Path) -> dict[str, tuple[str, str, str]]:
    """row_id -> (corpus, dialogue, name) of whom the model plays, from a Parquet file of prompts."""
    columns = ["data_source", "extra_info.row_id", "extra_info.dialogue_id", "extra_info.persona"]
    found = {}
    for row in pq.ParquetFile(test).read(columns=columns).to_pylist():
        info = row["extra_info"]
        found[info["row_id"]] = (row["data_source"], info["dialogue_id"], info["persona"]["name"])
    return found


def persona_table(
    records: Mapping[str, Sequence[Mapping[str, Any]]],
    played: Mapping[str, tuple[str, str, str]],
    cluster_of: Mapping[tuple[str, str, str], int],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Table 3: mean IoU, reward and accuracy by the cluster of the persona that the model played.

    Args:
        records: checkpoint -> its records of `recipe.evaluation.answers.score_answers`.
        played: of `played_personas`.
        cluster_of: person -> cluster.

    Returns:
        checkpoint -> cluster id as text (in order, noise last; ``all``: every row) -> ``n`` rows,
        ``dialogues``, and of each measure its mean and its 95 % ``interval`` (None for one dialogue).

    Raises:
        ValueError: a record's prompt or persona is not known.
    """
    table = {}
    for stage, answered in records.items():
        parts: dict[int, list[Mapping[str, Any]]] = {}
        for record in answered:
            person = played.get(record["row_id"])
            if person is None or person not in cluster_of:
                raise ValueError(
                    f"eval/{stage}/records.json: {record['row_id']} is no prompt of the run's "
                    "data/test.parquet; score the run again with make eval"
                )
            parts.setdefault(cluster_of[person], []).append(record)
        order = sorted(parts, key=lambda c: (c == clusters.NOISE, c))
        table[stage] = {str(c): _means(parts[c]) for c in order} | {"all": _means(answered)}
    return table


def _means(records: Sequence[Mapping[str, Any]], resamples: int = 2000) -> dict[str, Any]:
    """Means over rows; their intervals by resampling dialogues, as in `recipe.evaluation.intervals`."""
    sums: dict[tuple[str, str], np.ndarray] = {}
    for r in records:
        line = sums.setdefault((r["corpus"], r["dialogue_id"]), np.zeros(1 + len(_MEASURES)))
        line += [1, *(float(r[key]) for key in _MEASURES.values())]
    lines, n = np.stack(list(sums.values())), len(sums)
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=resamples) @ lines
    low, high = np.quantile(draws[:, 1:] / draws[:, :1], (0.025, 0.975), axis=0).tolist()
    total = lines.sum(axis=0)
    return {"n": len(records), "dialogues": n} | {
        name: {"mean": float(total[1 + i] / total[0]), "interval": [low[i], high[i]] if n > 1 else None}
        for i, name in enumerate(_MEASURES)
    }


def picture(content: Mapping[str, Any]) -> figures.Figure | None:
    """The sentences in the plane of their first two principal components.

    Args:
        content: of a `clusters.json`.

    Returns:
        The picture; None where nothing was embedded.
    """
    sentences: dict[str, dict[str, Any]] = {}
    shared = Counter(person["sentence_sha256"] for person in content["people"])
    for person in content["people"]:
        if person.get("point"):
            sentences.setdefault(person["sentence_sha256"], person)
    if not sentences:
        return None
    names = {c["id"]: f"{c['id']}: {c['name']}" for c in content["clusters"] if 0 <= c["id"] < SHOWN}
    groups: dict[str, list[tuple[float, float, float]]] = {
        name: [] for name in (*names.values(), "smaller clusters", "noise")
    }
    for sentence in list(sentences.values())[:: -(-len(sentences) // DOTS)]:
        c = sentence["cluster"]
        name = "noise" if c == clusters.NOISE else names.get(c, "smaller clusters")
        groups[name].append((*sentence["point"], shared[sentence["sentence_sha256"]]))
    return figures.scatter(
        {name: dots for name, dots in groups.items() if dots},
        grey={"smaller clusters": "#888", "noise": "#ccc"},
        title=f"Persona sentences, the {len(names)} largest clusters in colour",
        caption="Each dot is a sentence, larger where several people share it. First two principal "
        f"components of the embeddings; clusters are sought in up to {clusters.COMPONENTS}, so what overlaps "
        "here may be apart there.",
    )


def section(content: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """What `personas.html.j2` shows: a `clusters.json`, a table of `persona_table`, and the picture."""
    people, noise = len(content["people"]), sum(p["cluster"] == clusters.NOISE for p in content["people"])
    return {
        "content": content,
        "noise": noise / people,
        "table": table,
        "by_id": {str(c["id"]): c["name"] for c in content["clusters"]} | {"all": "all rows"},
        "charts": [chart for chart in [picture(content)] if chart],
    }


def section_of_run(
    folder: Path, records: Mapping[str, Sequence[Mapping[str, Any]]], scored: Path | None = None
) -> dict[str, Any] | None:
    """`section` of a run whose personas `make clusters` has put in clusters; None where it has not.

    Args:
        folder: the run's.
        records: checkpoint -> its records, as they are now.
        scored: the run whose checkpoints this one scores; its clusters serve if they hold everybody.

    Raises:
        ValueError: a `clusters.json` is broken, or the records are of other prompts.
    """
    for source in (folder, scored):
        again = f"make clusters RUN={source} writes it again"
        content = read_json(source / "clusters.json", None, remedy=again) if source else None
        if content is None:
            continue
        cluster_of = {(p["corpus"], p["dialogue_id"], p["name"]): p["cluster"] for p in content["people"]}
        played = played_personas(folder / "data/test.parquet")
        if source == folder or cluster_of.keys() >= set(played.values()):
            return section(content, persona_table(records, played, cluster_of))
    return None


def write(source: Path, out: Path, run: Path | None, min_size: int | None) -> clusters.Clusters:
    """Cluster the personas of ``source``; write ``clusters.json`` and ``clusters.html`` into ``out``."""
    found = clusters.cluster_people(clusters.read_people(source), min_size)
    content = clusters.as_json(found)
    table = {}
    if run and (records := read_evaluation(run, "records")):
        cluster_of = {p.key: c for p, c in zip(found.people, found.labels, strict=True)}
        table = persona_table(records, played_personas(source / "test.parquet"), cluster_of)
    write_json(out / "clusters.json", content | {"table3": table})
    write_text(out / "clusters.html", render_page("clusters.html.j2", personas=section(content, table)))
    return found


def main() -> int:
    """Command line of `make clusters`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--run", help="a run's name or folder")
    where.add_argument("--data", type=Path, help="a folder of make data, or a personas.json")
    parser.add_argument(
        "--min-size", type=int, help="people in the smallest cluster (default: 1 %%, at least 5)"
    )
    options = parser.parse_args()
    try:
        run = run_folder(options.run) if options.run else None
        source = run / "data" if run else options.data
        out = run or (source.parent if source.is_file() else source)
        found = write(source, out, run, options.min_size)
    except (ValueError, OSError) as error:
        print(f"error: {in_words(error, None) or error}", file=sys.stderr)
        return 1
    print(found.note or _summary(found))
    print(f"page: {out / 'clusters.html'}")
    return 0


def _summary(found: clusters.Clusters) -> str:
    kept = [c for c in found.found if c.id != clusters.NOISE]
    noise = found.labels.count(clusters.NOISE) / len(found.labels)
    lines = [f"{len(kept)} clusters of {len(found.people)} sentences, {noise:.1%} noise; the largest:"]
    return "\n".join([*lines, *(f"  {c.size:6}  {c.name}" for c in kept[:SHOWN])])


if __name__ == "__main__":
    sys.exit(main())
