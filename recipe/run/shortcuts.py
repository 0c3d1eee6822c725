"""What people type (`MODEL=Qwen3-8B RAW_DIR=...`) as the Hydra overrides that it stands for."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping, Sequence
from pathlib import Path

import yaml

from recipe.run import verl_settings  # noqa: F401 - conf/self_emo.yaml asks for its resolver

#: What a machine has whose driver gives torch a GPU: NVIDIA's, its bridge in Windows, AMD's.
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
CONF = Path(__file__).parents[2] / "conf"


def expand(arguments: Sequence[str], environment: MutableMapping[str, str]) -> list[str]:
    """Turn shortcuts into overrides and choose the hardware group.

    MODEL becomes a file of ``conf/model`` if one has that name (case does not matter), else
    ``model=any`` with that folder or hub id, and brings the experiment that the file names for the hardware.
    Where that experiment's experts lack a key in the environment, the base model is its own
    (``expert=self``). RAW_DIR and NAME set ``raw_dir`` and ``run.name``. What the user overrides is left
    alone.

    Args:
        arguments: the command line.
        environment: gets VERL_PLATFORM=cpu when the CPU profile is chosen: veRL reads it on import.

    Returns:
        Arguments for Hydra.
    """
    shortcuts, rest = {}, []
    for argument in arguments:
        key, found, value = argument.partition("=")
        if found and key in ("MODEL", "RAW_DIR", "NAME"):
            shortcuts[key] = value
        else:
            rest.append(argument)
    overridden = {argument.partition("=")[0].lstrip("+~") for argument in rest}
    named = next((a.partition("=")[2] for a in rest if a.startswith("hardware=")), None)
    hardware = named or choose_hardware(count_gpus(environment))
    added = [] if named else [f"hardware={hardware}"]
    if model := shortcuts.get("MODEL"):
        known = {path.stem: path for path in (CONF / "model").glob("*.yaml")}
        stem = model.lower().removesuffix("-instruct")
        if stem in known and stem != "any":
            added.append(f"model={stem}")
        else:
            stem, name = "any", Path(model).name
            added += ["model=any", f"base.path={_quoted(model)}", f"base.name={_quoted(name)}"]
        base = yaml.safe_load(known[stem].read_text())["base"]
        on_gpu = None if hardware == "cpu" else base.get("gpu_experiment")
        experiment = on_gpu or base.get("experiment")
        if experiment and "experiment" not in overridden:
            added.append(f"experiment={experiment}")
    chosen = next((a.partition("=")[2] for a in [*rest, *added] if a.startswith("experiment=")), None)
    if chosen and "expert" not in overridden and not all(map(environment.get, keys_of(chosen))):
        added.append("expert=self")
    if hardware == "cpu":
        environment.setdefault("VERL_PLATFORM", "cpu")
    if raw_dir := shortcuts.get("RAW_DIR"):
        added.append(f"raw_dir={_quoted(str(Path(os.path.expanduser(raw_dir)).resolve()))}")
    if run := shortcuts.get("NAME"):
        added.append(f"run.name={_quoted(run)}")
    # Flags and their values go first: argparse wants all overrides in one place.
    overrides = [a for a in rest if a.startswith("~") or ("=" in a and not a.startswith("-"))]
    return [a for a in rest if a not in overrides] + added + overrides


def keys_of(experiment: str) -> list[str]:
    """Variables with the keys of the experts that an experiment chooses, itself or through its parents."""
    path = CONF / f"experiment/{experiment}.yaml"
    if not path.is_file():  # Hydra says which there are
        return []
    for parent in yaml.safe_load(path.read_text()).get("defaults", ()):
        if isinstance(parent, dict) and (expert := parent.get("override /expert")):
            endpoints = yaml.safe_load((CONF / f"expert/{expert}.yaml").read_text())["endpoints"]
            return [endpoint["key"] for endpoint in endpoints if endpoint.get("key")]
        if isinstance(parent, str) and parent != "_self_" and (found := keys_of(parent)):
            return found
    return []


def _quoted(value: str) -> str:
    """A text in quotes as Hydra reads it: a backslash counts before a quote, ``${`` or the end."""
    before = r"(\\*)(\"|\$\{|\Z)"
    escaped = re.sub(before, lambda found: found[1] * 2 + ("\\" + found[2] if found[2] else ""), value)
    return f'"{escaped}"'


def count_gpus(environment: MutableMapping[str, str]) -> int:
    """GPUs of this machine, or of the best node at RAY_ADDRESS; 0 when PROFILE=cpu asks for none.

    Raises:
        ClusterError: no cluster answers at RAY_ADDRESS.
    """
    if environment.get("PROFILE") == "cpu":
        return 0
    if address := environment.get("RAY_ADDRESS"):
        from recipe.run.ray_nodes import accelerators

        return max(accelerators(address), default=0)
    if not any(map(os.path.exists, _DRIVERS)):  # torch takes two seconds to find nothing
        return 0
    import torch

    return torch.cuda.device_count()


def choose_hardware(gpus: int) -> str:
    """The group of ``conf/hardware`` for so many GPUs: the most of them that divide a batch."""
    return "cpu" if gpus == 0 else f"{max(n for n in (1, 2, 4, 8) if n <= gpus)}gpu"
