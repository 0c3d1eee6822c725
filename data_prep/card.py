"""One self-contained page about prepared data: how much of what, how long, who is played, what leaks.

It is written from the files of a folder alone (Parquet, `leakage.json`, `personas.json`, rejects), a
batch of rows at a time, so that it also fits what a training run made of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from data_prep.corpora import SPLITS, find_corpora
from data_prep.files import sha256, write_text
from data_prep.leakage import MIN_CHARACTERS, NEAR
from data_prep.prompt import load_templates
from rewards.labels import corpus_labels, known_corpora

NAME = "data_card.html"
_COLOURS = {"train": "#2b6cb0", "dev": "#dd8a2e", "test": "#3a9a5c"}
_COLUMNS = ["data_source", "prompt", "reward_model", "extra_info"]
_EXAMPLES = 2  # personas shown of each corpus
_BATCH = 2_000
_FILES_SHOWN = 6  # of one corpus; IEMOCAP has hundreds
# Text stays text: small files, and a reader's own font. No date and no random ids: same data, same page.
_SVG = {"svg.fonttype": "none", "svg.hashsalt": "self-emo", "font.size": 9, "font.family": "sans-serif"}


@dataclass
class Part:
    """What one split of one corpus holds; lengths are counted as length -> rows."""

    corpus: str
    split: str
    utterances: int = 0
    dialogues: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    contexts: Counter[int] = field(default_factory=Counter)  # utterances in the context, the last included
    characters: Counter[int] = field(default_factory=Counter)  # of both messages of the prompt
    tokens: Counter[int] = field(default_factory=Counter)  # of the prompt in the chat template


@dataclass
class Personas:
    """Who is played in one corpus, each person of each dialogue once."""

    by_source: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)  # characters of the sentence
    examples: dict[str, str] = field(default_factory=dict)


def write_card(
    folder: str | Path,
    raw_dir: str | Path,
    corpora: Sequence[str] | None = None,
    prompts_dir: str | Path | None = None,
    tokenizer: str | Path | None = None,
    max_prompt_length: int | None = None,
) -> Path:
    """Write ``<folder>/data_card.html``.

    Args:
        folder: with {train,dev,test}.parquet of `data_prep.rows.SCHEMA`, and what else was written there.
        raw_dir: where the corpora were read.
        corpora: which were read; None: all that are there.
        prompts_dir: of the prompt templates that were used.
        tokenizer: folder of a Hugging Face tokenizer with a chat template, to count tokens as well.
        max_prompt_length: tokens that a prompt may have, to say how many have more; needs ``tokenizer``.

    Returns:
        The page's path.

    Raises:
        ValueError: the tokenizer cannot be used.
    """
    folder = Path(folder)
    count = None if tokenizer is None else _token_counter(tokenizer)
    parts, personas = survey(folder, count)
    overlaps = _read_json(folder / "leakage.json")
    corpora_there = [name for name in known_corpora() if any(part.corpus == name for part in parts)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    with matplotlib.rc_context(_SVG):
        figures = {name: _figures([p for p in parts if p.corpus == name]) for name in corpora_there}
        heat_maps = _heat_maps(overlaps) if overlaps else []
    page = environment.get_template("card.html.j2").render(
        parts=parts,
        labels=known_corpora(),
        corpora=corpora_there,
        summary=summary,
        share_above=share_above,
        figures=figures,
        personas=personas,
        overlaps=overlaps,
        heat_maps=heat_maps,
        min_characters=MIN_CHARACTERS,
        near=NEAR,
        rejects=_rejects(folder),
        digest=load_templates(prompts_dir).digest,
        prompts=str(prompts_dir or "full"),
        files=list(_files(raw_dir, corpora)),
        tokenizer=tokenizer,
        limit=max_prompt_length,
    )
    return write_text(folder / NAME, page)


def survey(folder: Path, count_tokens: Any = None) -> tuple[list[Part], dict[str, Personas]]:
    """Count what the Parquet files of a folder hold, a batch of rows at a time.

    Args:
        folder: with {train,dev,test}.parquet; a split that is not there is passed over.
        count_tokens: list of chat prompts -> list of their lengths; None leaves tokens out.

    Returns:
        The parts that have rows, by corpus (as in `known_corpora`) and by split; and corpus -> personas.
    """
    written = _read_json(folder / "personas.json") or {}
    parts: dict[tuple[str, str], Part] = {}
    personas: dict[str, Personas] = {}
    for split in SPLITS:
        if not (folder / f"{split}.parquet").is_file():
            continue
        last = None
        # Without pre_buffer=False pyarrow keeps the whole file's bytes.
        file = pq.ParquetFile(folder / f"{split}.parquet", pre_buffer=False)
        for batch in file.iter_batches(_BATCH, columns=_COLUMNS):
            info = batch["extra_info"]
            sources, dialogues = batch["data_source"].to_pylist(), info.field("dialogue_id").to_pylist()
            contexts = pc.list_value_length(info.field("context")).to_pylist()
            tokens = count_tokens(batch["prompt"].to_pylist()) if count_tokens else [None] * len(sources)
            first = []
            for i, (corpus, dialogue, label, context, characters, length) in enumerate(
                zip(sources, dialogues, _labels(batch), contexts, _characters(batch), tokens, strict=True)
            ):
                part = parts.setdefault((corpus, split), Part(corpus, split))
                part.utterances += 1
                part.labels[label] += 1
                part.contexts[context] += 1
                part.characters[characters] += 1
                if length is not None:
                    part.tokens[length] += 1
                if (corpus, dialogue) != last:  # the rows of a dialogue stand together
                    last = (corpus, dialogue)
                    part.dialogues += 1
                    first.append(i)
            played = info.field("personas").take(pa.array(first, pa.int64())).to_pylist()
            for i, people in zip(first, played, strict=True):
                known = written.get(f"{sources[i]}:{split}:{dialogues[i]}", {})
                _add_personas(personas.setdefault(sources[i], Personas()), people, known)
    order = {name: i for i, name in enumerate(known_corpora())}
    return sorted(parts.values(), key=lambda p: (order[p.corpus], SPLITS.index(p.split))), personas


def _labels(batch: pa.RecordBatch) -> list[str]:
    """The heaviest label of each row."""
    weights = batch["reward_model"].field("ground_truth")
    names = [weights.type.field(i).name for i in range(weights.type.num_fields)]
    table = np.stack([pc.fill_null(weights.field(name), 0.0).to_numpy() for name in names])
    return [names[i] for i in table.argmax(axis=0)]


def _characters(batch: pa.RecordBatch) -> list[int]:
    """Characters of all messages of each row's prompt."""
    prompts = batch["prompt"]
    lengths = pc.utf8_length(prompts.flatten().field("content")).to_numpy(zero_copy_only=False)
    ends = np.cumsum(pc.list_value_length(prompts).to_numpy(zero_copy_only=False))
    total = np.concatenate([[0], np.cumsum(lengths)])
    return np.diff(total[np.concatenate([[0], ends])]).tolist()


def _add_personas(found: Personas, people: list[dict[str, str]], known: Mapping[str, str]) -> None:
    for person in people:
        name, sentence = person["name"], person["profile"]
        found.by_source["experts" if known.get(name) == sentence else "stand-in"] += 1
        found.lengths[len(sentence)] += 1
        if len(found.examples) < _EXAMPLES:
            found.examples.setdefault(name, sentence)


def summary(lengths: Mapping[int, int]) -> dict[str, float]:
    """Mean, median, 95th percentile (nearest rank) and largest of length -> how often."""
    values = sorted(lengths)
    total = sum(lengths.values())
    reached = list(accumulate(lengths[value] for value in values))

    def at(share: float) -> int:
        return next(v for v, count in zip(values, reached, strict=True) if count >= share * total)

    mean = sum(value * lengths[value] for value in values) / total
    return {"mean": mean, "median": at(0.5), "p95": at(0.95), "largest": values[-1]}


def share_above(lengths: Mapping[int, int], limit: int) -> float:
    """Share of what is longer than ``limit``."""
    return sum(n for length, n in lengths.items() if length > limit) / sum(lengths.values())


def _token_counter(folder: str | Path) -> Callable[[list[list[dict[str, str]]]], list[int]]:
    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        raise ValueError(f"tokenizer {folder}: no such folder; name one that holds a tokenizer.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"tokenizer {folder} cannot be read: {str(error).splitlines()[0]}") from None
    if tokenizer.chat_template is None:
        raise ValueError(f"tokenizer {folder} has no chat template, so a prompt's tokens cannot be counted")

    def count(prompts: list[list[dict[str, str]]]) -> list[int]:
        texts = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
        return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

    return count


def _files(raw_dir: str | Path, corpora: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """The files read with their checksums; many of them as one line, with the checksum of the checksums."""
    for name, files in find_corpora(raw_dir, corpora).items():
        lines = [(str(path), path.stat().st_size, sha256(path)) for path in files.paths()]
        if len(lines) > _FILES_SHOWN:
            together = hashlib.sha256("".join(digest for *_, digest in lines).encode()).hexdigest()
            title = (
                f"{len(lines)} files below {os.path.commonpath(files.paths())}, checksum of their checksums"
            )
            lines = [(title, sum(size for _, size, _ in lines), together)]
        for path, size, digest in lines:
            yield {"corpus": name, "path": path, "bytes": size, "sha256": digest}


def _rejects(folder: Path) -> dict[str, dict[str, Any]]:
    """File of rejects -> how many for which reason, and one of them."""
    found = {}
    for path in sorted(folder.glob("*.rejects.jsonl")):
        with path.open(encoding="utf-8") as lines:
            rejects = [json.loads(line) for line in lines]
        if rejects:
            reasons = Counter(reject["reason"] for reject in rejects)
            found[path.name] = {"reasons": reasons.most_common(), "example": rejects[0]}
    return found


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


# ------------------------------------------------------------------------------------------- pictures


def _figures(parts: Sequence[Part]) -> list[str]:
    """The pictures of one corpus: labels, contexts, prompts."""
    corpus = parts[0].corpus
    made = [
        _label_bars(parts, corpus_labels(corpus)),
        _histogram(parts, "contexts", "context", "utterances"),
        _histogram(parts, "characters", "prompt", "characters"),
    ]
    if parts[0].tokens:
        made.append(_histogram(parts, "tokens", "prompt", "tokens"))
    return made


def _label_bars(parts: Sequence[Part], labels: Sequence[str]) -> str:
    figure = Figure(figsize=(5, 0.45 * len(labels) + 0.9))
    axis = figure.add_subplot()
    height = 0.84 / len(parts)
    for i, part in enumerate(parts):
        shares = [100 * part.labels[label] / part.utterances for label in labels]
        places = [j + (i - (len(parts) - 1) / 2) * height for j in range(len(labels))]
        bars = axis.barh(places, shares, height * 0.9, color=_COLOURS[part.split], label=part.split)
        axis.bar_label(bars, [f"{share:.1f}" for share in shares], padding=2, fontsize=6)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.set_title(f"{parts[0].corpus}: emotions, % of labelled utterances", loc="left", fontsize=9)
    axis.legend(fontsize=7, frameon=False, loc="lower right")
    return _svg(figure)


def _histogram(parts: Sequence[Part], name: str, what: str, unit: str) -> str:
    """Shares of rows by length; what is longer than 99.5 % of all rows is left out of the picture."""
    together: Counter[int] = sum((getattr(part, name) for part in parts), Counter())
    values = np.array(sorted(together))
    reached = np.cumsum([together[value] for value in values])
    right = int(values[np.searchsorted(reached, 0.995 * reached[-1])])
    left = int(values[0])
    width = max(1, -(-(right - left + 1) // 24))  # at most 24 bars
    edges = np.arange(left, right + width + 1, width) - 0.5
    figure = Figure(figsize=(5, 2.6))
    axis = figure.add_subplot()
    for part in parts:
        lengths = getattr(part, name)
        counts, _ = np.histogram(list(lengths), edges, weights=list(lengths.values()))
        axis.stairs(
            100 * counts / part.utterances, edges, label=part.split, color=_COLOURS[part.split], linewidth=1.4
        )
    axis.set_title(f"{parts[0].corpus}: length of the {what}, % of utterances", loc="left", fontsize=9)
    axis.set_xlabel(unit, fontsize=8)
    axis.legend(fontsize=7, frameon=False)
    axis.grid(alpha=0.25)
    return _svg(figure)


def _heat_maps(overlaps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Share of each test split that stands in each training split: exactly, and at least nearly."""
    made = []
    for unit in dict.fromkeys(o["unit"] for o in overlaps):
        part = [o for o in overlaps if o["unit"] == unit]
        tests, trains = (list(dict.fromkeys(o[side] for o in part)) for side in ("test", "train"))
        for kind, title in (("exact", "word for word"), ("near", "at least nearly")):
            shares = np.zeros((len(tests), len(trains)))
            figure = Figure(figsize=(1.3 * len(trains) + 1.3, 0.8 * len(tests) + 1.1))
            axis = figure.add_subplot()
            for o in part:
                i, j = tests.index(o["test"]), trains.index(o["train"])
                shares[i, j] = o[kind] / o["total"] if o["total"] else 0.0
                text = f"{shares[i, j]:.1%}\n{o[kind]:,} of {o['total']:,}"
                colour = "white" if shares[i, j] > 0.1 else "#222"
                axis.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
            edges = [np.arange(len(side) + 1) - 0.5 for side in (trains, tests)]
            axis.pcolormesh(*edges, shares, cmap="Reds", vmin=0, vmax=0.25)  # shapes, where imshow is a PNG
            axis.invert_yaxis()
            axis.set_xticks(range(len(trains)), trains)
            axis.set_yticks(range(len(tests)), tests)
            axis.set_xlabel("training split", fontsize=8)
            axis.set_ylabel("test split", fontsize=8)
            axis.set_title(f"test {unit}s that stand\nin training text, {title}", fontsize=9)
            made.append(_svg(figure))
    return made


def _svg(figure: Figure) -> str:
    figure.tight_layout()
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
