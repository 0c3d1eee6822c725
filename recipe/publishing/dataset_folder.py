"""The replay buffer B of a finished run as a dataset: its rows in Parquet, and a card on where from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.rows import SCHEMA, read_rows, write_rows
from recipe.evaluation.buffer_quality import describe_buffer
from recipe.origins import lineage_problems
from recipe.pages import lineage
from recipe.publishing import citation
from recipe.publishing.cards import render_card
from recipe.publishing.finished import Finished
from recipe.publishing.licences import closed_corpora, corpus_terms, data_licence, licence_fields
from recipe.publishing.shareable import holds_closed_line, shareable
from recipe.run import manifest
from recipe.run.files import in_iterations

#: Of the rows, below the folder.
DATA = "data/train.parquet"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Shared:
    """What of B is published.

    Attributes:
        step: the step that left B, such as ``iter_2/buffer``.
        rows: those that may be passed on.
        left_out: (corpus, reason) -> how many may not.
        closed: corpora of the run whose text may not be passed on.
    """

    step: str
    rows: Sequence[Mapping[str, Any]]
    left_out: Counter[tuple[str, str]]
    closed: Sequence[str]


def shared_buffer(run: Finished) -> Shared:
    """The last B of a run, checked, without what may not be passed on.

    Raises:
        ValueError: B is not what its step left, a row does not come from where it says, or nothing of it may
            be passed on.
    """
    step = f"iter_{run.config.flywheel.iterations}/buffer"
    manifest.require(run.folder, step)
    if problem := next(lineage_problems(run.folder), None):
        raise ValueError(
            f"B does not come from where it says ({problem}); make verify RUN={run.folder.name} names all "
            "such rows"
        )
    rows = read_rows(run.folder / step / "buffer.parquet")
    closed = [] if run.made_up else closed_corpora(_corpora_of(run.folder))
    kept, left_out = shareable(rows, run.folder, closed)
    if not kept:
        raise ValueError(
            f"{run.folder / step}: none of its {len(rows)} rows may be passed on ({', '.join(closed)}); "
            "leave DATASET away"
        )
    return Shared(step, kept, left_out, closed)


def _corpora_of(folder: Path) -> list[str]:
    """All corpora that a run has read, whether or not a row of theirs is still in B."""
    paths = [*folder.glob("data/*.parquet"), *(p for _, p in in_iterations(folder, "buffer/buffer.parquet"))]
    sources = (
        pq.read_table(path, columns=["data_source"])["data_source"].unique().to_pylist() for path in paths
    )
    return sorted({corpus for found in sources for corpus in found})


def write_dataset(run: Finished, shared: Shared, target: Path, repo: str, model: str | None) -> None:
    """Write rows and card into a folder that is there.

    Args:
        run: the run.
        shared: of it.
        target: the folder to be filled.
        repo: hub id that the dataset is to have.
        model: hub id of the model that is published with it.
    """
    rows = [dict(row) | {"extra_info": dict(row["extra_info"])} for row in shared.rows]
    write_rows(rows, target / DATA)
    (target / "README.md").write_text(dataset_card(run, shared, repo, model), encoding="utf-8")


def dataset_card(run: Finished, shared: Shared, repo: str, model: str | None) -> str:
    """The text of the dataset's ``README.md``."""
    rows = shared.rows
    corpora = sorted({row["data_source"] for row in rows})
    metadata = {
        "language": ["en"],
        **licence_fields(data_licence(corpora, run.made_up), None),
        "pretty_name": f"Replay buffer of the SELF-EMO run {run.folder.name}",
        "task_categories": ["text-generation"],
        "tags": ["self-emo", "emotion-recognition-in-conversation", f"arxiv:{citation.ARXIV}"],
        "size_categories": [next((name for most, name in _SIZES if len(rows) < most), "n>1M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": DATA}]}],
    }
    return render_card(
        "dataset_card.md.j2",
        metadata,
        run=run,
        repo=repo,
        model=model,
        step=shared.step,
        count=len(rows),
        origins=_table(rows),
        sources=Counter((row["response_from"] or {}).get("source") or "none" for row in rows),
        quality=describe_buffer(rows),
        left_out=sorted(shared.left_out.items()),
        terms=corpus_terms(corpora),
        chain=_chain(run.folder, shared),
        columns=[(field.name, _about(field.name)) for field in SCHEMA],
        bibtex=citation.BIBTEX,
        arxiv=citation.ARXIV,
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """corpus -> origin (``original``, ``self_play``), and ``response`` -> rows."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        counts = found.setdefault(row["data_source"], Counter())
        counts[row["extra_info"]["origin"]] += 1
        counts["response"] += row["response"] is not None
    return dict(sorted(found.items()))


def _chain(folder: Path, shared: Shared) -> str | None:
    """How a row with a long chain came to be, as `make lineage` prints it; None without turns of self-play.

    What is printed are answers that are in no published row, too; none that holds a closed line is shown.
    """
    played = [row["extra_info"] for row in shared.rows if row["extra_info"]["origin"] == "self_play"]
    if not played or not any(folder.glob("iter_*/self_play/played_*.parquet")):
        return None
    deepest = max(played, key=lambda info: (info["turn"] or 0, info["row_id"]))
    text = lineage.render(lineage.follow(folder, deepest["row_id"]))
    return None if shared.closed and holds_closed_line(text, folder, shared.closed) else text


def _about(column: str) -> str:
    return {
        "data_source": "the corpus whose labels the row has",
        "prompt": "the chat messages that the model is given",
        "reward_model": "`ground_truth`: label -> weight; of self-play rows what the model said it felt",
        "extra_info": "the dialogue, personas and labels; `origin`, and for self-play rows `iteration`, "
        "`turn`, `parent`, `step`, `rollout_index`, `reward`, `r2` and `model`: the answer it was made from",
        "response": "the best answer that is known, null where none was good enough; SFT learns from it",
        "response_from": "who wrote it: `rollout`, `self_play` or an expert; its step and its reward",
    }[column]
