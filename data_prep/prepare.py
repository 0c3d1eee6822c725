"""From corpora on disk to veRL's Parquet: one row per labelled utterance.

`python -m data_prep.prepare --raw-dir RAW_DIR --out-dir OUT_DIR` (`make data`).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data_prep.corpora import SPLITS, read_corpora
from data_prep.corpora.dialogue import DataError, Dialogue, Utterance
from data_prep.disk import in_words
from data_prep.experts import personas
from data_prep.experts.client import Answers, load_experts
from data_prep.experts.offline import profile
from data_prep.files import cache_dir, commit, part_of
from data_prep.leakage import overlaps, write_overlaps
from data_prep.prompt import PromptTemplates, load_templates, render
from data_prep.rows import SCHEMA, make_row, write_rows
from data_prep.sample_dialogues import sample_corpora
from rewards.iou import normalise
from rewards.labels import LABELS, OTHERS, corpus_labels

#: Above so many labelled utterances `make data` leaves the leakage table out: it holds all text in memory.
LEAKAGE_LIMIT = 50_000
#: What `make data` writes beside the splits.
_BESIDE = ("personas.json", "personas.rejects.jsonl", "personas.usage.json", "leakage.json", "data_card.html")
#: Who answers in a dialogue in which only one person speaks.
LISTENER = {"name": "Listener", "profile": "An attentive listener."}
#: What is said of somebody who has not spoken yet (``personas.scope: past``).
UNHEARD = "Somebody who has not spoken yet."


def dialogue_rows(
    dialogue: Dialogue,
    templates: PromptTemplates,
    profiles: Mapping[str, Mapping[str, str]] | None = None,
    *,
    labels: str = "gold",
    scope: str = "dialogue",
    known: Sequence[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of one dialogue: a prompt for every labelled utterance, with all before it as context.

    Args:
        dialogue: whose utterances become rows.
        templates: of the prompts.
        profiles: `personas.key` of the dialogue, or of what is seen of it (`personas.seen_by`) -> speaker ->
            sentence and `personas.THEME` -> theme, from experts; where there is none, the offline stand-in's
            sentences, and no theme.
        labels: ``gold``, or ``votes``: the annotators' shares, where the corpus has them.
        scope: what personas and theme are made from: the whole ``dialogue``, as the paper's prompt asks, or
            only its ``past`` up to the line that is read.
        known: the list of labels, of a dialogue that is no corpus's: then every utterance has its row, whose
            label is empty where there is none. None: the corpus's list.
    """
    everything, known = known is not None, known or corpus_labels(dialogue.corpus)
    speakers = [utterance.speaker for utterance in dialogue.utterances]
    context: list[dict[str, str]] = []
    people = theme = None
    for i, utterance in enumerate(dialogue.utterances):
        context.append({"speaker": utterance.speaker, "text": utterance.text})
        if utterance.label is None and not everything:
            continue
        if people is None or scope == "past":
            people, theme = _people(dialogue, personas.seen_by(dialogue, i, scope), profiles or {})
        responder = choose_responder(speakers, i)
        persona = people[responder] if responder else LISTENER
        yield make_row(
            corpus=dialogue.corpus,
            prompt=render(context, persona, known, templates, theme or ""),
            ground_truth=_label(utterance, labels),
            row_id=f"{dialogue.corpus}:{dialogue.dialogue_id}:{utterance.utterance_id}",
            split=dialogue.split,
            dialogue_id=dialogue.dialogue_id,
            utterance_id=utterance.utterance_id,
            context=context,
            persona=persona,
            personas=list({**people, persona["name"]: persona}.values()),
            labels=known,
            theme=theme or "",
        )


def _people(
    dialogue: Dialogue, seen: Dialogue, profiles: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, dict[str, str]], str]:
    """name -> persona of everybody in a dialogue, and its theme, from what is seen of it."""
    lines: dict[str, list[str]] = {name: [] for name in (u.speaker for u in dialogue.utterances)}
    for utterance in seen.utterances:
        lines[utterance.speaker].append(utterance.text)
    found = profiles.get(personas.key(seen), {})
    said = {
        name: found.get(name) or (profile(name, texts) if texts else UNHEARD) for name, texts in lines.items()
    }
    people = {name: {"name": name, "profile": sentence} for name, sentence in said.items()}
    return people, found.get(personas.THEME, "")


def _label(utterance: Utterance, kind: str) -> dict[str, float]:
    """The label of an utterance, normalised; votes keep the corpus's own label the heaviest."""
    if utterance.label is None:
        return {}
    if kind != "votes" or not utterance.votes:
        return {utterance.label: 1.0}
    votes = {label: float(count) for label, count in utterance.votes.items()}
    others = max((count for label, count in votes.items() if label != utterance.label), default=0.0)
    if votes.get(utterance.label, 0.0) <= others:  # the release breaks such ties by a look at the line
        votes[utterance.label] = others + 0.5
    return normalise(votes)


def choose_responder(speakers: Sequence[str], i: int) -> str | None:
    """Who answers utterance ``i``: the next other speaker, else the last other one, else nobody."""
    others = [s for s in speakers[i + 1 :] if s != speakers[i]]
    before = [s for s in reversed(speakers[:i]) if s != speakers[i]]
    return next(iter(others or before), None)


def prepare(
    raw_dir: str | Path,
    out_dir: str | Path,
    corpora: Sequence[str] | None = None,
    prompts_dir: str | Path | None = None,
    profiles: Mapping[str, Mapping[str, str]] | None = None,
    *,
    labels: str = "gold",
    scope: str = "dialogue",
) -> dict[str, Counter]:
    """Write ``<out_dir>/{train,dev,test}.parquet``, a dialogue at a time: memory does not grow with the data.

    All three get their names once all are written: none stands beside those of another corpus.

    Args:
        raw_dir: folder with the corpora.
        out_dir: where the files go.
        corpora: which to read; None: all that are there.
        prompts_dir: of the prompt templates.
        profiles, labels, scope: as for `dialogue_rows`.

    Returns:
        Rows per split and corpus.

    Raises:
        DataError: what is wrong in which file and line.
    """
    templates = load_templates(prompts_dir)
    out_dir = Path(out_dir)
    counts: dict[str, Counter] = {}
    # All three at once: a file that is missing is an error before the first is written.
    dialogues = {split: read_corpora(raw_dir, corpora, [split]) for split in SPLITS}
    work = part_of(out_dir / "splits")
    quiet = not sys.stderr.isatty()
    try:
        for split in SPLITS:
            counts[split] = Counter()
            # What is learnt from may be soft; what is measured on stays the corpus's own label.
            kind = "gold" if split == "test" else labels
            shown = tqdm(dialogues[split], desc=f"{split} dialogues", leave=False, disable=quiet)
            rows = (dialogue_rows(d, templates, profiles, labels=kind, scope=scope) for d in shown)
            write_rows(_counted(chain.from_iterable(rows), counts[split]), work / f"{split}.parquet")
        for split in SPLITS:
            commit(work / f"{split}.parquet", out_dir / f"{split}.parquet")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return counts


def _counted(rows: Iterable[dict[str, Any]], count: Counter) -> Iterator[dict[str, Any]]:
    for row in rows:
        count[row["data_source"]] += 1
        yield row


def check_out_dir(out_dir: Path, raw_dir: str | Path) -> None:
    """Nothing but what an earlier `make data` wrote is written over.

    Raises:
        ValueError: the folder is read from, or holds files of such names that are somebody else's.
    """
    out, raw = out_dir.resolve(), Path(raw_dir).resolve()
    inside = out.relative_to(raw).parts if out.is_relative_to(raw) else None
    if inside is not None and (not inside or inside[0].casefold() in OTHERS.keys() | LABELS.keys()):
        raise ValueError(f"OUT_DIR={out_dir} holds the corpora that are read from it: name another folder")
    first = out_dir / "train.parquet"
    if (
        first.is_file() and _is_ours(first) and not (out_dir / "manifest.json").exists()
    ):  # that is a run's step
        return
    names = [*(f"{split}.parquet" for split in SPLITS), *_BESIDE]
    if there := [name for name in names if (out_dir / name).exists()]:
        raise ValueError(
            f"{out_dir}: {', '.join(there)} would be written over, and {first.name} there is not of "
            "`make data`: name another OUT_DIR"
        )


def _is_ours(path: Path) -> bool:
    try:
        return pq.read_schema(path).names == SCHEMA.names
    except (pa.ArrowException, OSError):
        return False


def _ask_experts(
    name: str, raw_dir: str | Path, corpora: Sequence[str] | None
) -> tuple[dict[str, dict[str, str]], Answers] | None:
    if name == "self":
        raise ValueError('a model is its own expert in a run: make train MODEL=... ARGS="expert=self"')
    if (settings := load_experts(name)) is None:
        return None
    profiles, answers = personas.ask_personas(
        read_corpora(raw_dir, corpora), settings, cache_dir() / "experts"
    )
    print(answers.summary("personas"))
    return profiles, answers


def main() -> int:
    """Command line of `make data`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--raw-dir", help="folder with meld/, emorynlp/ or iemocap/; default: made-up samples"
    )
    parser.add_argument("--out-dir", required=True)
    parser.add_argument("--corpora", nargs="*", help="default: those of the paper that are there")
    parser.add_argument("--prompts-dir", help="folder with your own system.txt and user.txt")
    parser.add_argument("--expert", default="offline", help="who writes the personas: a file of conf/expert")
    parser.add_argument("--tokenizer", help="folder of a tokenizer: the data card then counts tokens, too")
    parser.add_argument("--max-prompt-length", type=int, help="tokens; the data card says how many are cut")
    args = parser.parse_args()
    from data_prep.card import write_card  # with matplotlib

    if args.max_prompt_length and not args.tokenizer:
        parser.error("--max-prompt-length counts tokens; name a --tokenizer, too")
    if args.max_prompt_length is not None and args.max_prompt_length < 1:
        parser.error(f"--max-prompt-length={args.max_prompt_length} must be at least 1")
    out_dir = Path(args.out_dir)
    asked_for, args.raw_dir = args.raw_dir, args.raw_dir or sample_corpora()
    try:
        check_out_dir(out_dir, args.raw_dir)
        said = _ask_experts(args.expert, args.raw_dir, args.corpora)
        profiles = said[0] if said else None
        counts = prepare(args.raw_dir, out_dir, args.corpora, args.prompts_dir, profiles)
        # What an earlier command left here would be taken for a finding about these data.
        for name in _BESIDE:
            (out_dir / name).unlink(missing_ok=True)
        if said:
            said[1].write(out_dir / "personas", said[0])
        if sum(map(Counter.total, counts.values())) <= LEAKAGE_LIMIT:
            found = overlaps(read_corpora(args.raw_dir, args.corpora))
            write_overlaps(found, out_dir / "leakage.json")
        card = write_card(
            out_dir, args.raw_dir, args.corpora, args.prompts_dir, args.tokenizer, args.max_prompt_length
        )
    except (DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not (words := in_words(error, out_dir)):
            raise
        print(f"error: {words}", file=sys.stderr)
        return 1
    corpora = sorted({corpus for count in counts.values() for corpus in count})
    if not asked_for:
        print("no RAW_DIR: dialogues that the project makes up, in the corpora's files")
    print(f"{'labelled utterances':<20}" + "".join(f"{split:>8}" for split in SPLITS))
    for corpus in corpora:
        print(f"{corpus:<20}" + "".join(f"{counts[split][corpus]:>8,}" for split in SPLITS))
    print(f"written to {args.out_dir}; what is in it: {card}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
