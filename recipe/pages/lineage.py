"""One rollout through all of a run's files: prompt, rollouts, y*, d*_1, its answers, d*_2, B, the SFT rows.

`python -m recipe.pages.lineage RUN [ROW]` (`make lineage RUN=... [ROW=...]`) prints every place with its
file. ROW is a prompt's row_id; one that self-play made leads to the prompt that its chain began with.
Without ROW it is a chain that went far: the SFT learnt from its last row, where there is such a chain.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.rows import ground_truth
from recipe.buffer import best_rollouts
from recipe.run.files import in_iterations, read_config, run_folder

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """One place on the way.

    Attributes:
        name: ``prompt``, ``rollouts``, ``y*``, ``d*_1``, ``answers to d*_1``, ``B``, ``SFT``, and where rows
            of self-play come up as prompts, ``RL of iteration 2``.
        file: below the run's folder.
        rows: what stands there: rows of `data_prep.rows.SCHEMA`, or rollouts.
    """

    name: str
    file: str
    rows: Sequence[Row]


def follow(folder: Path, row_id: str | None = None) -> list[Place]:
    """The places of a prompt and of all that was made of it, iteration after iteration.

    Args:
        folder: of the run.
        row_id: of a prompt, or of a row that self-play made; None chooses one.

    Returns:
        In the order of the run. Left out are iterations whose RL has no rollout of the prompt, and
        files that the run has not made yet.

    Raises:
        ValueError: there is no such row, or no rollout of it.
    """
    root = _root(folder, row_id) if row_id else _chosen(folder)
    min_reward = read_config(folder).flywheel.min_reward
    found: list[Place] = []
    for iteration in _iterations(folder):
        found += _of_iteration(folder, iteration, root, min_reward)
    if not found:
        raise ValueError(
            f"{folder}: no RL stage has a rollout of {root}, so there is nothing to follow; "
            "leave ROW out for an example"
        )
    return found


def _of_iteration(folder: Path, k: int, root: str, min_reward: float) -> Iterator[Place]:
    here = folder / f"iter_{k}"
    asked = _rows(here / "rl/train.parquet", [root])
    by_step = {path: _rollouts(path, root) for path in sorted((here / "rl/rollouts").glob("step_*.parquet"))}
    if not asked or not any(by_step.values()):
        return

    def place(name: str, path: Path, rows: Sequence[Row]) -> Place:
        return Place(name, str(path.relative_to(folder)), rows)

    yield place("prompt", here / "rl/train.parquet", asked)
    for path, rollouts in by_step.items():
        if rollouts:
            yield place("rollouts", path, rollouts)
    best = best_rollouts([r for rollouts in by_step.values() for r in rollouts], min_reward).get(root)
    if best:
        yield place("y*", next(path for path, rollouts in by_step.items() if best in rollouts), [best])
    chain, parents, turn = [root], [root], 1
    while (path := here / f"self_play/played_{turn}.parquet").is_file():
        played = [row for row in _children(path, parents) if row["extra_info"]["turn"] == turn]
        if not played:
            break
        parents = [row["extra_info"]["row_id"] for row in played]
        chain += parents
        yield place(f"d*_{turn}", path, played)
        if (samples := here / f"self_play/samples_{turn}.parquet").is_file():
            yield place(
                f"answers to d*_{turn}", samples, [r for name in parents for r in _rollouts(samples, name)]
            )
        turn += 1
    for name, path in (("B", here / "buffer/buffer.parquet"), ("SFT", here / "sft/train.parquet")):
        if path.is_file():
            yield place(name, path, _rows(path, chain))
    for path in sorted((folder / f"iter_{k + 1}/rl/rollouts").glob("step_*.parquet")):
        if later := [r for name in chain[1:] for r in _rollouts(path, name)]:
            yield place(f"RL of iteration {k + 1}", path, later)


# ---- reading ----


def _iterations(folder: Path) -> list[int]:
    return [k for k, _ in in_iterations(folder, "rl")]


def _rows(path: Path, row_ids: Sequence[str]) -> list[Row]:
    """The rows of these ids, in the order of the ids; none where there is no file."""
    if not path.is_file():
        return []
    wanted = pc.field("extra_info", "row_id").isin(row_ids)
    rows = pq.read_table(path, filters=wanted).to_pylist()
    return sorted(rows, key=lambda row: row_ids.index(row["extra_info"]["row_id"]))


def _children(path: Path, parents: Sequence[str]) -> list[Row]:
    return pq.read_table(path, filters=pc.field("extra_info", "parent").isin(parents)).to_pylist()


def _rollouts(path: Path, row_id: str) -> list[Row]:
    return pq.read_table(path, filters=pc.field("row_id") == row_id).to_pylist()


def _played(folder: Path) -> Iterator[tuple[Path, Row]]:
    """All rows of self-play, longest chains first."""
    played = [path for _, path in in_iterations(folder, "self_play/played_*.parquet")]
    for path in sorted(played, key=_turn_of, reverse=True):
        for row in pq.read_table(path, columns=["extra_info", "response"]).to_pylist():
            yield path, row


def _turn_of(path: Path) -> int:
    return int(path.stem.removeprefix("played_"))


def _root(folder: Path, row_id: str) -> str:
    """The prompt that a row's chain began with; of a prompt itself."""
    parents = {}
    for _, row in _played(folder):
        info = row["extra_info"]
        parents[info["row_id"]] = info["parent"], info["turn"]
    known = row_id
    while known in parents:
        parent, turn = parents[known]
        known = parent
        if turn == 1:
            break
    return known


def _chosen(folder: Path) -> str:
    """The prompt of a row of self-play that trained in its own SFT and in the next RL; else the next best."""
    known: dict[Path, set[str]] = {}

    def ids(*paths: Path, column: str) -> set[str]:
        for path in paths:
            if path not in known:
                known[path] = set(_ids(path, column))
        return set().union(*(known[path] for path in paths))

    best = None
    for path, row in _played(folder):
        row_id, here = row["extra_info"]["row_id"], path.parent.parent
        later = (folder / f"iter_{int(here.name.removeprefix('iter_')) + 1}/rl/rollouts").glob(
            "step_*.parquet"
        )
        learnt = row_id in ids(here / "sft/train.parquet", column="extra_info")
        places = learnt + (learnt and row_id in ids(*later, column="row_id"))
        if best is None or places > best[0]:  # of equal ones the first, whose chain is the longest
            best = places, row_id
        if places == 2:
            break
    if best:
        return _root(folder, best[1])
    for _, path in in_iterations(folder, "rl/rollouts/step_*.parquet"):
        return pq.read_table(path, columns=["row_id"])["row_id"][0].as_py()
    raise ValueError(f"{folder} has no rollouts yet, so there is nothing to follow")


def _ids(path: Path, column: str) -> Iterable[str]:
    if not path.is_file():
        return []
    values = pq.read_table(path, columns=[column])[column].to_pylist()
    return (value["row_id"] for value in values) if column == "extra_info" else values


# ---- text ----


def render(places: Sequence[Place]) -> str:
    """The places as text for a terminal."""
    lines: list[str] = []
    for place in places:
        lines += ["", f"{place.name}   [{place.file}]"]
        if not place.rows:
            lines.append("    not there: see counts.json beside it for what the draw left out")
        for row in place.rows:
            lines += ["    " + line for line in (_prompt(row) if "extra_info" in row else [_answer(row)])]
    return "\n".join(lines[1:])


def _prompt(row: Row) -> list[str]:
    info = row["extra_info"]
    made = (
        f"{info['origin']}"
        if info["origin"] == "original"
        else f"turn {info['turn']} of iteration {info['iteration']}, from rollout {info['rollout_index']}"
        f"{'' if info['step'] is None else ' of step ' + str(info['step'])} to {info['parent']} "
        f"(R {info['reward']:.2f}, r2 {info['r2']:.2f})"
    )
    lines = [f"{info['row_id']}: {made}; label {_weights(ground_truth(row))}"]
    lines += [f"  {turn['speaker']}: {turn['text']}" for turn in info["context"][-3:]]
    lines.append(f"  {info['persona']['name']} is to answer")
    if row["response"]:
        source = row["response_from"] or {}
        fields = ("source", "iteration", "step", "rollout_index", "reward", "r2")
        said = ", ".join(f"{name} {_short(source[name])}" for name in fields if source.get(name) is not None)
        lines += [f"  response ({said or 'of unknown source'}):", f"    {' '.join(row['response'].split())}"]
    return lines


def _answer(rollout: Row) -> str:
    parsed = json.loads(rollout["parsed"])
    shown = f"breaks the rule: {rollout['reason']}"
    if rollout["valid"]:
        last, mine = _weights(parsed["last_emotions"]), _weights(parsed["my_emotions"])
        shown = f"{last} | feels {mine} | {parsed['my_output']}"
    advantage = f", advantage {rollout['advantage']:+.2f}" if rollout.get("advantage") is not None else ""
    return (
        f"{rollout['row_id']} #{rollout['rollout_index']}: R {rollout['score']:.2f}, r2 {rollout['r2']:.2f}"
        f"{advantage}: {shown}"
    )


def _weights(emotions: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {weight:.2f}" for label, weight in emotions.items())


def _short(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main() -> int:
    """Command line of `make lineage`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="name or folder")
    parser.add_argument("row", nargs="?", help="row_id of a prompt, or of a row that self-play made")
    args = parser.parse_args()
    try:
        print(render(follow(run_folder(args.run), args.row)))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
