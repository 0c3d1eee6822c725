"""Algorithm 1 under kills, moves and damage: the stages' bodies are replaced, all else is the real thing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipe import verify
from recipe.run import manifest
from recipe.run.manifest import IntegrityError

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def soaked(tmp_path_factory, root) -> tuple[Path, str]:
    """What `make soak` leaves and says in its short form; in a process of its own, which forks."""
    folder = tmp_path_factory.mktemp("soak")
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--short", "--folder", str(folder)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture
def run(soaked, tmp_path) -> Path:
    """A copy of the undisturbed run, to be damaged."""
    return Path(shutil.copytree(soaked[0] / "soak", tmp_path / "soak"))


def test_a_killed_run_ends_as_one_that_nobody_has_disturbed(soaked):
    folder, said = soaked
    kills = int(re.search(r"killed once at every place +(\d+) kills", said)[1])
    assert kills > 30
    places = (folder / "killed/places.txt").read_text()
    for k in (1, 2, 3):  # every step was killed before it had its name
        for step in ("rl", "self_play", "buffer", "sft"):
            assert re.search(rf"before os.rename \S+/iter_{k}/{step}.work\n", places)
    assert len(re.findall(r"while empty: \S+/latest_checkpointed_iteration.txt\n", places)) == 3
    assert re.search(r"after os.rename \S+/actor/huggingface", places)
    assert re.search(r"killed at random, seed 1 +[1-9]\d* kills +as undisturbed", said)
    assert "DIFFERS" not in said


def test_a_moved_run_goes_on_and_an_iteration_more_scores_its_own_checkpoints(soaked):
    assert re.search(r"moved, then one iteration more +as undisturbed", soaked[1])
    after = soaked[0] / "after/soak"
    assert {p.name for p in (after / "eval").glob("r*")} == {
        f"{kind}_{k}" for kind in ("rl", "retrained") for k in (1, 2, 3)
    }
    assert json.loads((after / "base/base.json").read_text()) == {"path": "model"}


def test_nothing_is_left_of_checkpoints_and_half_written_files(soaked):
    for name in (".", "killed", "random-1"):
        run = soaked[0] / name / "soak"
        assert not [p for p in run.rglob("*") if p.name == "checkpoints" or p.suffix in (".part", ".work")]


def test_b_of_an_undisturbed_run_goes_back_to_its_rollouts(run):
    assert list(verify.problems(run)) == []
    rows = pq.read_table(run / "iter_3/buffer/buffer.parquet").to_pylist()
    kinds = {(r["extra_info"]["origin"], (r["response_from"] or {}).get("source")) for r in rows}
    assert {("original", "rollout"), ("self_play", "self_play")} <= kinds  # there was something to go back to
    assert {r["extra_info"]["turn"] for r in rows if r["extra_info"]["origin"] == "self_play"} == {1, 2}


# ---- damage ----


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def lose_a_row(path: Path) -> None:
    pq.write_table(pq.read_table(path)[1:], path)


def replace_by(other: str) -> Callable[[Path], None]:
    return lambda path: shutil.copyfile(path.parent.parent / other / path.name, path) and None


DAMAGE = [
    ("iter_2/buffer/buffer.parquet", flip, "its content has changed"),
    ("iter_2/buffer/buffer.parquet", lose_a_row, "bytes"),
    ("iter_1/rl/rollouts/step_000002.parquet", Path.unlink, "it is missing"),
    ("iter_1/rl/rollouts/step_000009.parquet", Path.touch, "no step left it"),
    ("iter_2/rl/model/model.safetensors", cut, "bytes, its step left"),
    ("data/train.parquet", flip, "its content has changed"),
    ("eval/rl_2/records.json", replace_by("cold"), "its step left"),
    ("base/model/model.safetensors", flip, "its content has changed"),
]


@pytest.mark.parametrize(("name", "harm", "words"), DAMAGE, ids=[f"{n}-{w}" for n, _, w in DAMAGE])
def test_damage_is_seen(run, name, harm, words, capsys, monkeypatch):
    harm(run / name)
    monkeypatch.setattr(sys, "argv", ["verify", str(run)])
    assert verify.main() == 1
    said = capsys.readouterr()
    assert f"{run / name}: " in said.err and words in said.err and "problems" in said.out


def test_a_step_of_another_place_is_seen(run):
    shutil.rmtree(run / "iter_2/rl")
    shutil.copytree(run / "iter_1/rl", run / "iter_2/rl")
    found = manifest.check(run, "iter_2/rl")
    assert found == [f"{run / 'iter_2/rl'}: it is a copy of the step iter_1/rl"]
    assert any("another iter_2/rl than the one that is there" in line for line in verify.problems(run))


def test_a_parent_that_is_gone_is_seen(run):
    shutil.rmtree(run / "iter_1/self_play")
    found = manifest.check(run, "iter_1/buffer")
    assert found == [f"{run / 'iter_1/buffer'}: it was made from iter_1/self_play, whose manifest is gone"]


def test_answers_of_another_checkpoint_are_seen(run):
    answers = run / "eval/answers"
    for part in (answers / "cold/test").glob("part_*"):
        shutil.copyfile(part, answers / "rl_1/test" / part.name)
    (problem,) = verify.problems(run)
    assert problem.startswith(f"{run / 'eval/rl_1'}: ") and "answers are not in eval/answers" in problem


def rewrite(run: Path, step: str, name: str, change: Callable[[list[dict]], None]) -> None:
    """Change rows of a file, and its manifest with it: only the lineage can tell."""
    path = run / step / name
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    known = manifest.read(run / step)
    manifest.write(run / step, run, step, known["parents"], known["took"])


def first(rows: list[dict], origin: str, source: str) -> dict:
    return next(
        r
        for r in rows
        if r["extra_info"]["origin"] == origin and (r["response_from"] or {}).get("source") == source
    )


@pytest.mark.parametrize(
    ("origin", "source", "change", "words"),
    [
        ("original", "rollout", {"response": "<think>"}, "its response is not that of the answer in step_"),
        (
            "original",
            "offline-expert",
            {"response": "<think>"},
            "not the one that iter_0/buffer has from the expert",
        ),
        (
            "self_play",
            "self_play",
            {"response": "<think>"},
            "its response is not that of the answer in samples_",
        ),
        ("self_play", "self_play", {"reply"}, "its reply is not that of the answer"),
        ("self_play", "self_play", {"label"}, "its label is not that of the answer"),
        ("self_play", "self_play", {"parent"}, "has no answer"),
        ("self_play", "self_play", {"model"}, "it was made by the model abc; iter_"),
        ("original", "rollout", {"label"}, "its dialogue or label is not that of data/train.parquet"),
    ],
)
def test_a_row_that_no_rollout_made_is_seen(run, origin, source, change, words):
    def edit(rows: list[dict]) -> None:
        row = first(rows, origin, source)
        info = row["extra_info"]
        if isinstance(change, dict):
            row.update(change)
        elif change == {"label"}:
            truth = row["reward_model"]["ground_truth"]
            row["reward_model"]["ground_truth"] = {k: v and v / 2 for k, v in truth.items()}
        elif change == {"reply"}:
            info["context"][-1]["text"] += " not"
        else:
            info |= {"parent": "meld:no:such"} if change == {"parent"} else {"model": "abc"}

    rewrite(run, "iter_3/buffer", "buffer.parquet", edit)
    found = [line for line in verify.problems(run) if "buffer.parquet, " in line]
    assert found and all(words in line for line in found), found


def test_a_lost_step_of_rollouts_is_told_with_what_came_of_it(run):
    path = run / "iter_3/rl/rollouts/step_000001.parquet"
    path.unlink()
    assert any(re.search(rf"{path} is missing, and \d+ of B's rows", line) for line in verify.problems(run))


def test_nothing_is_built_on_damage(run):
    flip(run / "iter_3/buffer/buffer.parquet")
    with pytest.raises(IntegrityError) as caught:
        manifest.require(run, "iter_3/buffer")
    said = str(caught.value)
    assert "iter_3/buffer/buffer.parquet: its content has changed" in said
    assert "restore it from a copy, or delete" in said and "\n" not in said


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_broken_manifest_is_named(run, content, capsys, monkeypatch):
    (run / "iter_1/sft/manifest.json").write_text(content)
    monkeypatch.setattr(sys, "argv", ["verify", str(run)])
    assert verify.main() == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith(f"error: {run / 'iter_1/sft/manifest.json'}: no ") and "restore it" in said


def test_a_step_of_before_there_were_manifests_is_taken_as_it_is(run, capsys, monkeypatch):
    for step in manifest.steps_of(run):
        (run / step / manifest.NAME).unlink()
    flip(run / "iter_3/buffer/counts.json")
    assert manifest.check(run, "iter_3/buffer") == []
    monkeypatch.setattr(sys, "argv", ["verify", str(run)])
    assert verify.main() == 0
    assert "without a manifest, of an older version, and unchecked: base, data" in capsys.readouterr().out
    shutil.rmtree(run / "iter_3/buffer")
    assert verify.main() == 1
    assert "iter_3/buffer" not in capsys.readouterr().out  # it is gone, and not older
