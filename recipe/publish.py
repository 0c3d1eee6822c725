"""`make publish`: hand a finished run on as a Hugging Face folder, and push it where that is asked for.

`python -m recipe.publish RUN[:STAGE] [--repo owner/name] [--dataset owner/name] [--push]`. Everything is
written to ``publish/`` of the run's folder first; without ``--push`` it stays there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from data_prep.disk import in_words
from data_prep.files import replace_folder, write_text
from recipe.publishing import mark
from recipe.publishing.finished import Finished, finished_run
from recipe.publishing.push import Upload, check_id, push, token
from recipe.run.lock import locked


def publish(name: str, repo: str | None = None, dataset: str | None = None, pushed: bool = False) -> None:
    """Write the folders, say what is in them, and push them if that is asked for.

    Args:
        name: ``RUN`` or ``RUN:STAGE``, as `make chat` names checkpoints.
        repo: hub id of the model.
        dataset: hub id of the buffer B; None leaves it out.
        pushed: push them.

    Raises:
        ValueError: what stands in the way, in one line with the remedy; then nothing was pushed, or the line
            says what.
    """
    for variable, asked in (("REPO", repo), ("DATASET", dataset)):
        if asked:
            check_id(variable, asked)
    if pushed:
        if not repo:
            raise ValueError("PUSH=1 takes the repository's name: REPO=owner/name")
        token()
    run = finished_run(name)
    with locked(run.folder):  # until all is pushed: the same command beside this one writes the folders anew
        uploads = list(_written(run, repo, dataset))
        for upload in uploads:
            _show(upload)
        if pushed:
            for line in push(uploads):
                print(line, flush=True)
            print("new repositories are private; their settings on the hub open them")
            return
    words = [f"RUN={name}", f"REPO={repo or 'owner/name'}", *([f"DATASET={dataset}"] if dataset else [])]
    print(
        "\nnothing is pushed; read the cards, then, with a token that may write in HF_TOKEN:\n"
        f"  make publish {' '.join(map(shlex.quote, words))} PUSH=1"
    )


def _written(run: Finished, repo: str | None, dataset: str | None) -> list[Upload]:
    """Both folders, in the order in which they are pushed: the model's card names the dataset."""
    from recipe.publishing.dataset_folder import shared_buffer, write_dataset
    from recipe.publishing.evidence import evidence_of
    from recipe.publishing.model_card import model_card
    from recipe.publishing.model_folder import write_model
    from recipe.publishing.predictions import copy_predictions

    place = run.folder / "publish"
    kinds = ["model", *(["dataset"] if dataset else [])]
    for kind in kinds:
        mark.see_replaceable(place / kind, kind, run.run_id)
    shared = shared_buffer(run) if dataset else None
    card = model_card(run, evidence_of(run), repo, dataset)

    def model(part: Path) -> None:
        write_model(run.model, part, run.config)
        copy_predictions(run, part)
        write_text(part / "README.md", card)
        mark.write(part, "model", run.folder.name, run.run_id, run.stage)

    def buffer(part: Path) -> None:
        assert shared is not None and dataset is not None
        write_dataset(run, shared, part, dataset, repo)
        mark.write(part, "dataset", run.folder.name, run.run_id, run.stage)

    uploads = []
    if dataset:
        replace_folder(place / "dataset", buffer)
        message = f"Buffer B of the SELF-EMO run {run.folder.name}"
        uploads.append(Upload(dataset, "dataset", place / "dataset", run.run_id, message))
    replace_folder(place / "model", model)
    message = f"{run.stage} of the SELF-EMO run {run.folder.name}"
    return [*uploads, Upload(repo or "", "model", place / "model", run.run_id, message)]


def _show(upload: Upload) -> None:
    paths = [path for path in sorted(upload.folder.rglob("*")) if path.is_file()]
    sizes = {path.relative_to(upload.folder).as_posix(): path.stat().st_size for path in paths}
    print(f"\n{upload.folder}, for the {upload.kind} repository {upload.repo or '(REPO=owner/name)'}:")
    for name, size in sizes.items():
        print(f"  {_size(size):>10}  {name}")
    print(f"  {_size(sum(sizes.values())):>10}  together, one commit")


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def main() -> int:
    """Command line of `make publish`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="NAME, or NAME:cold, NAME:rl, NAME:retrained, NAME:retrained_1, ...")
    parser.add_argument("--repo", help="owner/name of the model on the hub")
    parser.add_argument("--dataset", help="owner/name of the buffer B on the hub; without it B stays here")
    parser.add_argument("--push", action="store_true", help="push to the hub, with HF_TOKEN")
    args = parser.parse_args()
    try:
        publish(args.run, args.repo, args.dataset, args.push)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; a repository is pushed whole or not at all, and the same command goes on")
        return 130
    except OSError as error:
        if not (said := in_words(error, None)):
            raise
        print(f"error: {said}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
