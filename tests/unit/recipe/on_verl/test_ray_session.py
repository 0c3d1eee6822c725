"""A cluster that is too small is named, where veRL would wait for ever."""

from __future__ import annotations

import inspect
import sys

import pytest
from omegaconf import OmegaConf
from ray.core.generated.common_pb2 import ActorDeathCause, ActorDiedErrorContext

from recipe.on_verl.ray_session import connected, in_short, lost_worker
from recipe.run.ray_nodes import CPUS_PER_GPU, ClusterError, real_gpus, shortage


def node(gpus: float | None = None, alive: bool = True, cpus: float = 96.0) -> dict:
    return {"Alive": alive, "Resources": {"CPU": cpus} | ({} if gpus is None else {"GPU": gpus})}


@pytest.mark.parametrize(
    ("nodes", "asked"),
    [
        ([node(8.0)], (1, 8)),
        ([node(), node(8.0), node(8.0)], (2, 8)),
        ([node(4.0), node(2.0)], (2, 2)),
    ],
)
def test_enough(nodes, asked):
    assert shortage(nodes, *asked) is None


@pytest.mark.parametrize(
    ("nodes", "asked", "said"),
    [
        ([node(4.0), node(4.0)], (1, 8), "1 node(s) with 8 GPU(s) and 80 CPUs each"),
        ([node(8.0)], (2, 8), "the cluster has 1 node(s), with 8 GPU(s) and 96 CPUs"),
        ([node(8.0), node(8.0, alive=False)], (2, 8), "the cluster has 1 node(s), with 8"),
        ([node()], (1, 1), "1 node(s), with 0"),
        ([], (1, 1), "0 node(s), with none"),
        # veRL's SFT would wait for ever for ten CPUs a GPU.
        ([node(8.0, cpus=64.0)], (1, 8), "1 node(s) with 8 GPU(s) and 80 CPUs each"),
        ([node(8.0, cpus=64.0)], (1, 8), "with 8 GPU(s) and 64 CPUs"),
    ],
)
def test_too_little(nodes, asked, said):
    assert said in shortage(nodes, *asked)


def test_what_verl_s_sft_reserves():
    """The number of CPUs that the check counts is the one of veRL's own default."""
    from verl.single_controller.ray import RayResourcePool

    assert RayResourcePool([1]).max_colocate_count == CPUS_PER_GPU


def test_an_address_where_nobody_answers(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    config = OmegaConf.create({"env": {}, "trainer": {"nnodes": 1, "n_gpus_per_node": 1}})
    said = "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:9"
    with pytest.raises(ClusterError, match=said), connected(config):
        raise AssertionError("connected")


def test_only_gpus_that_are_there_choose_the_hardware():
    assert real_gpus({"GPU": 8.0, "accelerator_type:H100": 1.0, "CPU": 4.0}) == 8
    assert real_gpus({"GPU": 2.0, "CPU": 4.0}) == real_gpus({"CPU": 4.0}) == 0


def dead(**cause) -> dict:
    return {"ActorClassName": "AgentLoopWorker", "Pid": 42, "DeathCause": ActorDeathCause(**cause)}


def died(reason: str, message: str) -> dict:
    number = ActorDiedErrorContext.Reason.Value(reason)
    return dead(actor_died_error_context={"reason": number, "error_message": message})


@pytest.mark.parametrize("reason", ["OWNER_DIED", "RAY_KILL", "OUT_OF_SCOPE", "REF_DELETED"])
def test_a_worker_that_was_ended_is_not_lost(reason):
    assert lost_worker([died(reason, "as it should")]) is None


def test_a_worker_that_exited_by_itself_is_not_lost():
    assert lost_worker([died("WORKER_DIED", "Worker exit type: INTENDED_USER_EXIT")]) is None
    assert lost_worker([dead()]) is None and lost_worker([]) is None


@pytest.mark.parametrize(
    "actor",
    [
        died("WORKER_DIED", "Worker exit type: SYSTEM_ERROR"),
        died("NODE_DIED", "its node has died"),
        dead(oom_context={"error_message": "memory pressure"}),
    ],
)
def test_a_lost_worker_is_named_with_its_cause(actor):
    said = lost_worker([died("RAY_KILL", "as it should"), actor])
    assert said.startswith("AgentLoopWorker (process 42): ")
    assert said.endswith(("SYSTEM_ERROR", "its node has died", "memory pressure"))


def test_other_versions_of_ray_or_python(monkeypatch):
    import ray
    from ray._private.utils import check_version_info

    from recipe.on_verl import ray_session as cluster

    there = {"ray_version": "2.1.0", "python_version": "3.8.1"}

    def init(**_):  # as Ray's own driver does when it meets the cluster
        check_version_info(there, "node 10.0.0.1")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(cluster, "get_ppo_ray_runtime_env", lambda config: {"env_vars": {}})
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    config = OmegaConf.create({"trainer": {"nnodes": 1, "n_gpus_per_node": 1}})
    with pytest.raises(cluster.ClusterError) as caught, cluster.connected(config):
        raise AssertionError("connected")
    here = f"Ray: {ray.__version__}, Python: {sys.version.split()[0]}"
    assert f"runs Ray: 2.1.0, Python: 3.8.1, this process {here}: " in str(caught.value)
    assert "same environment on every node" in str(caught.value)
    assert cluster.version_mismatch("Could not find any running Ray instance.") is None


def test_other_errors_of_ray_are_left_alone(monkeypatch):
    import ray

    from recipe.on_verl import ray_session as cluster

    def init(**_):
        raise RuntimeError("something else")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(cluster, "get_ppo_ray_runtime_env", lambda config: {"env_vars": {}})
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(RuntimeError, match="something else"), cluster.connected(OmegaConf.create({})):
        pass


def test_a_local_cluster_that_a_busy_machine_starts_too_slowly_gets_another_try(monkeypatch, capsys):
    import ray
    from ray._private import node

    from recipe.on_verl import ray_session as cluster
    from recipe.run.process import WORKER_LOST

    said = "The current node timed out during startup. This could happen because ..."
    assert said[:41] in inspect.getsource(node.Node)  # Ray's own words

    def init(**_):
        raise Exception(said)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(cluster, "get_ppo_ray_runtime_env", lambda config: {"env_vars": {}})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = OmegaConf.create({"cluster": {"num_cpus": 4}})
    with pytest.raises(SystemExit) as ended, cluster.connected(config):
        raise AssertionError("connected")
    assert ended.value.code == WORKER_LOST
    assert "busy with other work" in capsys.readouterr().err.splitlines()[-1]


def test_an_error_of_ray_in_one_line():
    remote = (
        "\x1b[36mray::run()\x1b[39m\n  File ...\nray.exceptions.ActorDiedError: The actor died.\n\tpid: 7\n"
    )
    assert in_short(RuntimeError(remote)) == "ray.exceptions.ActorDiedError: The actor died. pid: 7"
    assert in_short(RuntimeError("no memory\nleft")) == "no memory left"
    gone = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: create.<locals>.WorkerDict"
        "\n\tpid: 24051\n\tname: rkhRWorkerDict_1:0\n\tip: 192.0.2.2\n"
        "The actor died because its node has died."
    )
    assert in_short(RuntimeError(gone)) == "the node at 192.0.2.2, with rkhRWorkerDict_1:0, is gone"


def test_waiting_for_nodes_is_said(monkeypatch, capsys):
    import ray

    from recipe.run import ray_nodes as nodes

    seen = iter([[node(0)], [node(0), node(1.0)], [node(1.0), node(1.0)]])
    monkeypatch.setattr(ray, "nodes", lambda: next(seen))
    monkeypatch.setattr(nodes.time, "sleep", lambda _: None)
    nodes.wait_for(2, 1, 600)
    out = capsys.readouterr().out
    assert out.startswith(
        "waiting up to 600 s for nodes: the run asks for 2 node(s) with 1 GPU(s) and 10 CPUs each"
    )
    assert out.count("waiting") == 1  # and then once a minute
    monkeypatch.setattr(ray, "nodes", lambda: [node(1.0)])
    with pytest.raises(nodes.ClusterError, match="the cluster has 1 node"):
        nodes.wait_for(2, 1, 0)


def test_a_cluster_that_cannot_be_joined(monkeypatch):
    import ray

    from recipe.run import ray_nodes as nodes

    def init(*_, **__):
        raise ConnectionError("Failed to connect to Ray cluster.\nmore")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(nodes.ClusterError, match=r"cannot be joined \(Failed .* set it here, too") as caught:
        nodes.check_cluster("auto", 1, 1, 0)
    assert "more" not in str(caught.value)
