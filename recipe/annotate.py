"""`make annotate`: the emotions, with weights, of every utterance of a user's own dialogues.

`python -m recipe.annotate --in FILE --out FOLDER (--model MODEL | --run NAME[:STAGE]) [--labels ...]
[--fields ...] [hydra overrides]`. The same line goes on where it was stopped: what is answered is kept in
`<OUT>.work` until all is there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from data_prep.disk import in_words
from data_prep.experts import personas
from data_prep.files import cache_dir, sha256, write_json, write_text
from data_prep.own_dialogues.columns import read_columns
from data_prep.own_dialogues.read import Overview, look_through, read_dialogues
from data_prep.own_dialogues.records import check_file
from recipe.annotation import checkpoint, tables
from recipe.annotation.answer import answered_parts, rows_in
from recipe.annotation.output import Output, output_at
from recipe.annotation.prompts import PERSONAS_OF, personas_path, seen
from recipe.annotation.records import Annotation, read_annotations
from recipe.annotation.task import Task, differences, new_task, read_labels, read_task
from recipe.main import explain
from recipe.run.lock import NAME as LOCK
from recipe.run.lock import locked
from recipe.run.run import Run, say

#: Asks for all answers that are not there yet; they go below the parent of the run's folder.
Ask = Callable[[Run, Task], None]


def annotate(run: Run, task: Task, output: Output, name: str, ask: Ask) -> tables.Summary:
    """Ask for what is not answered yet, and write the output.

    Args:
        run: whose folder lies in that of the task.
        task: what is asked.
        output: where the tables and the page go.
        name: of the checkpoint, for people.
        ask: has the prompts answered (`in_a_stage`).

    Raises:
        ValueError: the file has changed meanwhile.
    """
    from recipe.pages.annotation import SHOWN_DIALOGUES, SHOWN_UTTERANCES, render_annotations

    work = run.folder.parent
    _ask_personas(run, task)
    ask(run, task)
    if sha256(task.source) != task.of["file"]:
        raise ValueError(
            f"{task.source} has changed while it was read; run the command again with OUT=... elsewhere, or "
            f"delete {work}"
        )
    summary, shown = tables.Summary(), list[Sequence[Annotation]]()

    def remembered() -> Iterator[Sequence[Annotation]]:
        counted = tables.count_annotations(read_annotations(task, work), task.labels, summary)
        for dialogue in counted:
            if len(shown) < SHOWN_DIALOGUES:
                shown.append(dialogue[:SHOWN_UTTERANCES])
            yield dialogue

    def fill(paths: Mapping[str, Path]) -> None:
        tables.write_tables(remembered(), {kind: paths[kind] for kind in output.tables}, task.labels)
        page = render_annotations(shown, summary, task.labels, name, Path(task.source).name, output.tables)
        write_text(paths["page"], page)
        about = {"of": task.of, "checkpoint": name, "file": Path(task.source).name, **asdict(summary)}
        write_json(paths["about"], about)

    output.write(fill)
    return summary


def in_a_stage(run: Run, task: Task) -> None:
    """Have a stage's process ask the checkpoint, with a bar; a lost worker is tried again.

    Raises:
        StageError: it failed.
    """
    from recipe.run.process import run_stage

    def attempt() -> None:
        if (done := rows_in(answered_parts(work / "answers", task.key))) < task.utterances:
            run_stage("annotate", config, run.folder, total=task.utterances, done=done)

    config, work = run.stage_config("annotate"), run.folder.parent
    with open_dict(config):
        config.job = {"work": str(work), "progress": str(run.folder / "metrics.part.jsonl")}
    run.retried(attempt)


def _ask_personas(run: Run, task: Task) -> None:
    """Have the experts describe the speakers, as for the rows of an evaluation; no experts, no files."""
    from recipe.models.self_expert import is_self
    from recipe.run.experts import asked

    work, scope = run.folder.parent, run.config.personas.scope
    targets = [personas_path(work, number) for number in range(0, task.dialogues, PERSONAS_OF)]
    if run.config.expert.kind == "offline" or all(map(_is_written, targets)):
        return
    (work / "personas").mkdir(exist_ok=True)
    dialogues = read_dialogues(Path(task.source), task.labels, task.columns, task.together)
    with asked(run, work) as experts:
        assert experts
        for target in targets:
            some = list(islice(dialogues, PERSONAS_OF))
            if _is_written(target):
                continue
            looked_at = [part for own in some for part in seen(own, scope)]
            needed = not is_self(run.config)
            profiles, answers = personas.ask_personas(looked_at, experts, cache_dir() / "experts", needed)
            answers.write(target, profiles)


def _is_written(target: Path) -> bool:
    return Path(f"{target}.json").exists()


def _prepared(args: argparse.Namespace) -> tuple[DictConfig, str, Task, Output]:
    """What the command line asks for, with all of the file looked at.

    Raises:
        ValueError: what cannot be used, and the remedy; of what the command line itself shows a line a fault.
    """
    source = Path(args.source).expanduser()
    output, columns, (config, name, model), *_ = _each(
        lambda: output_at(args.out),
        lambda: read_columns(args.fields or ""),
        lambda: checkpoint.configured(args.model, args.run, args.overrides),
        lambda: check_file(source),
        lambda: args.labels and read_labels(args.labels, args.labels),
    )
    labels = read_labels(args.labels, checkpoint.default_labels(config))
    found = _looked_through(source, labels, columns)
    model = model or checkpoint.model_of(config)
    of = checkpoint.decides(config, source, found, labels, model)
    return config, name, new_task(source, labels, columns, found, model, of), output


def _each(*parts: Callable[[], Any]) -> list[Any]:
    """What every part returns.

    Raises:
        ValueError: with what every part that failed has to say.
    """
    found, faults = [], []
    for part in parts:
        try:
            found.append(part())
        except HydraException as error:
            faults.append(explain(error))
        except (ValueError, OmegaConfBaseException) as error:
            faults.append(str(error))
    if faults:
        raise ValueError("\n       ".join(faults))
    return found


def _looked_through(source: Path, labels: Sequence[str], columns: Mapping[str, str]) -> Overview:
    with tqdm(desc="reading", unit="utterance", leave=False, disable=not sys.stderr.isatty()) as bar:
        found = look_through(source, labels, columns, lambda count: bar.update(count - bar.n))
    used = ", ".join(f"{role} = {name}" if role != name else name for role, name in found.columns.items())
    unused = f"; not used: {', '.join(found.unused)}" if found.unused else ""
    say(f"{source}: {tables.how_many(found.utterances, found.dialogues)}; {used}{unused}")
    say(f"labels: {', '.join(labels)}")
    return found


@contextmanager
def _at_work(config: DictConfig, task: Task, work: Path) -> Iterator[Run]:
    """Have the folder of what is being made to oneself, and all settings checked.

    Settings that decide no answer may be others than before, so what a run keeps is made anew every time.

    Raises:
        ValueError: the folder holds answers to something else, or what is wrong with the settings.
    """
    from recipe.run.preflight import check

    work.mkdir(parents=True, exist_ok=True)
    if not (work / "task.json").exists() and {path.name for path in work.iterdir()} - {"run", LOCK}:
        raise ValueError(f"{work} is there already, and not of make annotate; give another OUT=...")
    with locked(work):
        if (work / "task.json").exists() and (changed := differences(read_task(work).of, task.of)):
            raise ValueError(
                f"{work} holds answers to something else (other {', '.join(changed)}); go on with the "
                "command that began it, give another OUT=..., or delete it"
            )
        shutil.rmtree(work / "run", ignore_errors=True)
        with open_dict(config):
            config.run.root, config.run.name, config.run.resume = str(work), "run", False
            config.raw_dir = config.download = config.corpora = None  # no corpus is read
        try:
            run = Run(config, check(config, training=False))
            task.write(work)
            with locked(run.folder):
                yield run
        finally:
            if not (work / "task.json").exists():
                shutil.rmtree(work)  # nothing has been begun


def main() -> int:
    """Command line of `make annotate`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in", dest="source", required=True, help=".csv, .tsv, .jsonl or .txt")
    parser.add_argument("--out", required=True, help="a folder, or a .csv or .jsonl file")
    parser.add_argument("--model", help="as MODEL of make train")
    parser.add_argument("--run", help="NAME or NAME:cold, NAME:rl, NAME:retrained")
    parser.add_argument(
        "--labels", help="a,b,c or the name of a corpus; default: the run's corpus, else MELD"
    )
    parser.add_argument("--fields", help="which is which, where names do not say so: text=Message,speaker=")
    parser.add_argument("overrides", nargs="*", help="Hydra's, as for make eval")
    args = parser.parse_args()
    from recipe.run.process import StageError

    work = None
    try:
        config, name, task, output = _prepared(args)
        work = output.work
        if output.is_finished(task.of):
            print(f"{output.out} is finished: the same file, checkpoint and labels")
        else:
            with _at_work(config, task, work) as run:
                summary = annotate(run, task, output, name, in_a_stage)
            print("\n".join(summary.lines()))
        if (work / "task.json").exists():
            shutil.rmtree(work)
    except (ValueError, StageError, OmegaConfBaseException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if not (said := in_words(error, work)):
            raise
        print(f"error: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
        return 130
    for path in output.files.values():
        print(f"  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
