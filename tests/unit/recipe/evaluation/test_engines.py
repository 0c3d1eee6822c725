"""Prompts that several replicas answer come back in their order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from recipe.evaluation import engines


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_what_was_dealt_out_comes_back_in_its_order(count, replicas):
    items = list(range(count))
    assert engines.in_turn([items[i::replicas] for i in range(replicas)]) == items


class _Remote:
    """An actor of Ray as far as it is used: what its methods give is there at once."""

    def __init__(self, made):
        self.answer = SimpleNamespace(remote=made.answer)


def _config(device: str, replicas: int, size: int):
    rollout = {"tensor_model_parallel_size": size}
    return OmegaConf.create(
        {
            "evaluate": {"replicas": replicas},
            "trainer": {"device": device},
            "actor_rollout_ref": {"rollout": rollout},
        }
    )


@pytest.mark.parametrize(
    ("device", "replicas", "size", "made"),
    [("cpu", 3, 1, 3), ("cpu", 1, 1, 1), ("cuda", 3, 1, 1), ("cpu", 3, 4, 1)],
)
def test_replicas_share_the_prompts_on_a_cpu_and_end_with_the_block(
    monkeypatch, device, replicas, size, made
):
    started, ended, asked = [], [], []

    class Engine:
        def __init__(self, config, checkpoint, sampling, number=0, replicas=1):
            started.append((checkpoint, number, replicas))

        def answer(self, prompts):
            asked.append(list(prompts))
            return [[f"to {prompt}"] for prompt in prompts]

        def close(self):
            ended.append(self)

    import ray

    remote = SimpleNamespace(remote=lambda *given: _Remote(Engine(*given)))
    monkeypatch.setattr(engines, "Engine", Engine)
    monkeypatch.setattr(ray, "remote", lambda **_: lambda _: remote)
    monkeypatch.setattr(ray, "get", lambda found: found)
    monkeypatch.setattr(ray, "kill", ended.append)
    with engines.loaded(_config(device, replicas, size), "c", engines.Sampling()) as ask:
        assert ask(["a", "b", "c", "d"]) == [["to a"], ["to b"], ["to c"], ["to d"]]
    assert started == [("c", number, made) for number in range(made)]
    assert len(ended) == made and sorted(sum(asked, [])) == ["a", "b", "c", "d"]
