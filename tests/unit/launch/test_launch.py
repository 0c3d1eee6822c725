"""The files of launch/, as far as they can be checked without Slurm, Kubernetes or a container."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import tomllib

import psutil
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from launch import setup_env


def lock(root, profile: str = "gpu") -> dict[str, Version]:
    """Pins by canonical name."""
    lines = (root / f"requirements/{profile}.lock").read_text().splitlines()
    return {canonicalize_name(n): Version(v) for n, _, v in (line.partition("==") for line in lines if line)}


# ---- requirements ----


@pytest.mark.parametrize("profile", ["cpu", "gpu", "analysis", "trl", "docs"])
def test_every_requirement_is_met_by_its_lock(root, profile):
    pins = lock(root, profile)
    lines = (root / f"requirements/{profile}.in").read_text().splitlines()
    asked = [Requirement(line.partition(" #")[0]) for line in lines if line and not line.startswith("#")]
    assert asked
    unmet = [
        str(r) for r in asked if not r.specifier.contains(pins[canonicalize_name(r.name)], prereleases=True)
    ]
    assert unmet == []


def test_the_profiles_agree_on_what_the_recipe_is_written_for(root):
    cpu, gpu = lock(root, "cpu"), lock(root, "gpu")
    for name in ("verl", "ray", "transferqueue", "hydra-core", "tensordict", "numpy"):
        assert cpu[name] == gpu[name], name


def test_analyses_have_an_environment_of_their_own(root):
    analysis = lock(root, "analysis")
    for profile in ("cpu", "gpu"):  # transformers imports it wherever it is, in every process of a run
        assert "scikit-learn" not in lock(root, profile)
    assert {name: analysis[name] for name in ("torch", "transformers", "numpy")} == {
        name: lock(root, "cpu")[name] for name in ("torch", "transformers", "numpy")
    }
    assert setup_env.VENVS["analysis"] not in (setup_env.VENVS["cpu"], setup_env.VENVS["gpu"])
    assert set(setup_env.VENVS) == set(setup_env.GIB_NEEDED)


# ---- container ----


def container(root) -> list[tuple[str, str]]:
    """Instructions of the container file, continued lines joined."""
    text = (root / "launch/Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_what_the_container_copies_is_there_and_is_all(root):
    copied = [part for name, rest in container(root) if name == "COPY" for part in rest.split()[:-1]]
    missing = [name for name in copied if not (root / name).exists()]
    assert missing == []
    project = tomllib.loads((root / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.removesuffix("*") for name in packages} <= set(copied)
    assert {"requirements", "Makefile", "pyproject.toml"} <= set(copied)


def test_the_container_s_versions_are_the_lock_s(root):
    pins, steps = lock(root), container(root)
    (base,) = [rest for name, rest in steps if name == "FROM"]
    found = re.fullmatch(r"nvidia/cuda:([\d.]+)-devel-ubuntu24\.04", base)  # whose Python is 3.12
    assert Version(found[1]) == pins["cuda-toolkit"]
    runs = [rest for name, rest in steps if name == "RUN"]
    assert "make setup PROFILE=gpu" in runs
    # flash-attn is in no lock; veRL names the version for this torch and this CUDA.
    from importlib.metadata import requires

    torch, cuda = pins["torch"], pins["cuda-toolkit"]
    extra = f"flash-attn-cu{cuda.major}{cuda.minor}torch{torch.major}{torch.minor}"
    declared = [Requirement(r) for r in requires("verl") if f'"{extra}"' in r]
    (wanted,) = [f"{r.name}{r.specifier}" for r in declared if r.name == "flash-attn"]
    assert any(wanted in run and "--no-build-isolation" in run for run in runs)
    assert wanted in (root / "docs/start/one-gpu.md").read_text()
    assert {"wheel", "ninja", "packaging", "psutil"} <= pins.keys()  # what its setup.py imports


def test_the_container_gets_gpus_and_shared_memory(root):
    (line,) = re.findall(r"`(podman run [^`]+)`", (root / "launch/README.md").read_text())
    words = line.split()
    assert words[words.index("--device") + 1] == "nvidia.com/gpu=all" and "--shm-size=64g" in words
    assert words[-4:] == ["self-emo:gpu", "make", "train", "MODEL=Qwen3-8B"]


# ---- Slurm ----


def test_slurm_s_options(root):
    text = (root / "launch/slurm.sbatch").read_text()
    options = re.findall(r"(?m)^#SBATCH --([a-z-]+)(?:=(\S+))?$", text)
    assert len(options) == text.count("#SBATCH")
    assert dict(options) | {"nodes": "1", "ntasks-per-node": "1", "gpus-per-node": "8"} == dict(options)
    first = text.index("\nset -euo")
    assert text.rindex("#SBATCH") < first  # options after the first command would not count
    subprocess.run(["bash", "-n", str(root / "launch/slurm.sbatch")], check=True)


@pytest.fixture
def slurm(root, tmp_path):
    """Runs the script with stand-ins that note how they were called; gives those calls and the status."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    note = f'echo "$(basename "$0") $* RAY_ADDRESS=${{RAY_ADDRESS:-}}" >> {tmp_path}/calls\n'
    bodies = {
        "scontrol": "printf 'n1\\nn2\\n'",
        # On Debian and Ubuntu a machine's own name is 127.0.1.1 to itself.
        "hostname": "case $1 in --ip-address) echo 127.0.1.1;; "
        '*) echo "${ADDRESSES-fd00::1 10.0.0.1 172.17.0.1}";; esac',
        "srun": "exec sleep 30",
        "ray": "exit ${HEALTH:-0}",
        # Ends when all stand-ins that run beside it have noted their calls.
        "python": f"until [ $(grep -c ^srun {tmp_path}/calls) = $SLURM_JOB_NUM_NODES ]; "
        "do /bin/sleep 0.01; done; exit ${STATUS:-0}",
        "sleep": "exec /bin/sleep ${1/#2/0}",
    }
    for name, body in bodies.items():
        (tmp_path / ".venv/bin" / name).write_text(f"#!/bin/bash\n{note}{body}\n")
        (tmp_path / ".venv/bin" / name).chmod(0o755)

    def run(*arguments: str, nodes: int = 1, **more: str) -> tuple[int, list[str]]:
        given = {
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_GPUS_ON_NODE": "8",
        }
        environment = {"PATH": os.environ["PATH"], "SLURM_JOB_NODELIST": "n[1-2]"} | given | more
        done = subprocess.run(
            ["bash", str(root / "launch/slurm.sbatch"), *arguments],
            env={k: v for k, v in environment.items() if v}, capture_output=True, text=True,
        )  # fmt: skip
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        return done.returncode, [*calls, done.stderr]

    return run


def test_slurm_starts_head_workers_and_the_run(slurm):
    status, calls = slurm("MODEL=Qwen3-8B", "run.root=/shared/my runs", nodes=2)
    assert status == 0
    head, workers = sorted(c.removesuffix(" RAY_ADDRESS=") for c in calls if c.startswith("srun"))[::-1]
    assert head == (
        "srun --overlap --nodes=1 --ntasks=1 --nodelist=n1 ray start --head --node-ip-address=10.0.0.1 "
        "--port=6379 --num-gpus=8 --num-cpus=112 --block"
    )
    assert workers == (
        "srun --overlap --nodes=1 --ntasks=1 --exclude=n1 ray start --address=10.0.0.1:6379 --num-gpus=8 "
        "--num-cpus=112 --block"
    )
    (run,) = [c for c in calls if c.startswith("python")]
    assert run == (
        "python -m recipe.main hardware=8gpu trainer.nnodes=2 trainer.n_gpus_per_node=8 MODEL=Qwen3-8B "
        "run.root=/shared/my runs RAY_ADDRESS=10.0.0.1:6379"
    )


def test_one_node_has_no_workers_and_the_run_s_status_comes_back(slurm):
    status, calls = slurm(STATUS="3")
    assert status == 3
    assert sum(c.startswith("srun") for c in calls) == 1


def test_slurm_without_what_it_needs(slurm):
    status, calls = slurm(SLURM_GPUS_ON_NODE="")
    assert status == 1 and "ask for GPUs" in calls[-1]
    status, calls = slurm(HEALTH="1")
    assert status == 1 and "no Ray head at 10.0.0.1:6379" in calls[-1]
    status, calls = slurm(ADDRESSES="fd00::1")
    assert status == 1 and "n1 has no IPv4 address" in calls[-1]
    assert not any(c.startswith("python") for c in calls)


# ---- Ray's cluster launcher ----


def test_the_cluster_file_passes_ray_s_own_checks(root):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((root / "launch/ray_cluster.yaml").read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    workers = len(config["provider"]["worker_ips"])
    assert config["min_workers"] == config["max_workers"] == workers
    assert prepared["available_node_types"]["local.cluster.node"]["min_workers"] == workers
    for start in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        assert int(re.search(r"^ray start .*--num-cpus=(\d+)", start)[1]) >= 112
    for command in config["setup_commands"] + config["head_start_ray_commands"]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


# ---- KubeRay ----


def test_the_manifest_has_the_structure_of_a_rayjob(root):
    (job,) = yaml.safe_load_all((root / "launch/kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9-]+", job["metadata"]["generateName"])
    spec = job["spec"]
    assert spec.keys() <= {
        "entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec",
    }  # fmt: skip
    cluster = spec["rayClusterSpec"]
    assert cluster.keys() == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert Version(cluster["rayVersion"]) == lock(root)["ray"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head.keys() == {"rayStartParams", "template"}
    assert workers.keys() == {
        "groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template",
    }  # fmt: skip
    assert workers["minReplicas"] == workers["replicas"] == workers["maxReplicas"]
    for group in (head, workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (one,) = pod["containers"]
        assert (
            one["image"] == "self-emo:gpu"
            and "-t self-emo:gpu" in (root / "launch/Containerfile").read_text()
        )
        assert one["resources"]["requests"] == one["resources"]["limits"]
        assert all(isinstance(amount, str) for amount in one["resources"]["limits"].values())
        assert {m["name"] for m in one["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_the_manifest_s_command_fits_its_cluster(root, monkeypatch):
    from recipe.run.shortcuts import expand
    from tests.unit.composed import composed

    job = yaml.safe_load((root / "launch/kuberay.yaml").read_text())
    command = shlex.split(job["spec"]["entrypoint"])
    assert command[:3] == ["python", "-m", "recipe.main"]
    config = composed(*expand(command[3:], {}))
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert config.trainer.nnodes == workers["replicas"]
    assert config.trainer.n_gpus_per_node == int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert int(workers["rayStartParams"]["num-cpus"]) >= 10 * config.trainer.n_gpus_per_node
    (mount,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "shared"]
    assert config.run.root.startswith(mount) and config.raw_dir.startswith(mount)
    assert config.base.name == "Qwen3-8B" and config.run.name == "qwen3-8b"


# ---- make doctor ----


def test_the_doctor_works_before_anything_is_installed(root, tmp_path):
    """With the standard library alone (-S: no site-packages), and says what comes next."""
    for name in ("launch", "requirements"):
        (tmp_path / name).symlink_to(root / name)
    script = tmp_path / "doctor.py"
    script.write_text((root / "launch/doctor.py").read_text().replace(".parent.parent", ".parent"))
    done = subprocess.run([sys.executable, "-S", str(script)], capture_output=True, text=True)
    assert done.stderr == ""
    assert re.search(r"profile   .pu; its environment, \.venv, is built by make setup", done.stdout)
    # Of a fresh clone only the machine can be wrong: disk and memory, if this one is short of them.
    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert all("GiB" in line for line in wrong)
    assert done.returncode == bool(wrong) and ("all is well" in done.stdout) == (not wrong)
    assert re.search(r"memory    \d+\.\d GiB free of \d+\.\d", done.stdout)


def test_the_doctor_says_what_a_run_on_gpus_lacks(monkeypatch, capsys):
    from launch import doctor
    from recipe.run import gpu_checks

    old = gpu_checks.Machine(cuda="13.0", problem="the driver is too old", no_flash_attention="none")
    monkeypatch.setattr(gpu_checks, "probe", lambda: old)
    problems: list[str] = []
    doctor._gpu_stack(problems)
    assert len(problems) == 1 and "the driver is too old" in problems[0]
    assert "attention sdpa, slower than flash-attn" in capsys.readouterr().out


def test_the_doctor_says_whose_processes_it_finds(tmp_path, capsys):
    from launch import doctor
    from recipe.run.lock import MARK, locked

    def told(**run: str) -> str:
        known = {name: value for name, value in os.environ.items() if name != MARK}
        child = subprocess.Popen(["bash", "-c", "exec -a ray::worker sleep 600"], env=known | run)
        try:
            while psutil.Process(child.pid).cmdline()[:1] != ["ray::worker"]:
                time.sleep(0.01)
            doctor._leftovers()
        finally:
            child.kill()
            child.wait()
        (line,) = (line for line in capsys.readouterr().out.splitlines() if str(child.pid) in line)
        return line

    assert "of yours, but of no run of this project" in told()
    assert f"that a killed run left behind, {tmp_path}; run.resume=true" in told(**{MARK: str(tmp_path)})
    with locked(tmp_path):
        assert f"of the run {tmp_path}, which is going on" in told(**{MARK: str(tmp_path)})
