"""`make verify`: is a run still what its steps left, and does B come from its rollouts?

`python -m recipe.verify RUN`. Reads every file of the run once; writes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from recipe.evaluation.answers import read_answers
from recipe.origins import lineage_problems
from recipe.run import manifest
from recipe.run.files import in_iterations, read_config, read_json, read_state, run_folder


def problems(folder: Path) -> Iterator[str]:
    """What is wrong with a run, a line each.

    Args:
        folder: of the run.

    Raises:
        ValueError: a file that says what the run is made of is itself broken.
    """
    read_config(folder)
    steps = manifest.steps_of(folder)
    for step in sorted({*steps, *(step for step in read_state(folder) if step != "eval/answers")}):
        yield from manifest.check(folder, step)
    for path in sorted(folder.glob("eval/*/answers_of.json")):
        key, strange = read_json(path)["key"], []
        for split, name in (("test", "records.json"), ("train", "records_train.json")):
            answers = read_answers(folder / "eval/answers" / path.parent.name / split, key)
            records = read_json(path.with_name(name), [])
            strange += [r["row_id"] for r in records if r["answer"] not in answers.get(r["row_id"], ())]
        if strange:
            yield f"{path.parent}: {len(strange)} answers are not in eval/answers, as that to {strange[0]}"
    try:
        yield from lineage_problems(folder)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        yield f"{folder}: B cannot be followed to its rollouts before the files above are restored ({reason})"


def main() -> int:
    """Command line of `make verify`."""
    if len(sys.argv) != 2:
        print("error: name a run: make verify RUN=<name>", file=sys.stderr)
        return 1
    try:
        folder = run_folder(sys.argv[1])
        found = list(problems(folder))
        steps = manifest.steps_of(folder)
        done = read_state(folder).keys() - {*steps, "eval/answers"}
        before = sorted(step for step in done if (folder / step).is_dir())
        counts = [len(manifest.read(folder / step)["files"]) for step in steps]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for problem in found:
        print(problem, file=sys.stderr)
    if before:
        print(f"note: without a manifest, of an older version, and unchecked: {', '.join(before)}")
    buffers = len(in_iterations(folder, "buffer/buffer.parquet"))
    checked = f"{sum(counts)} files of {len(steps)} steps, and {buffers} buffers back to their rollouts"
    print(f"{folder}: {checked}: {f'{len(found)} problems' if found else 'all as it was left'}")
    print("  (not among them: config.yaml, the page, and what else is written outside of the steps)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
