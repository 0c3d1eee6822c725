"""Hours of a run and the floor of an RL step, against arithmetic written out here."""

from __future__ import annotations

import pytest

from recipe.run.plan import architecture
from recipe.run.plan_hours import pair, phases, step_seconds
from recipe.run.roofline import floors
from tests.unit.composed import composed as composed_of

N = 36 * (4096 * 128 * (32 + 8 + 8 + 32) + 3 * 4096 * 12288) + 2 * 151936 * 4096  # Qwen3-8B
PEAK = 8 * 989e12
#: Nothing beside arithmetic, and one efficiency for each kind of it.
ARITHMETIC = (
    "plan.start_seconds=0", "plan.mfu={train: 0.35, forward: 0.45, decode: 0.04}",
    "plan.step_seconds={weights: 0, sleep: 0, rest: 0}",
)  # fmt: skip
NO_BREAKS = ("trainer.test_freq=-1", "trainer.save_freq=-1", "trainer.val_before_train=false")


def composed(*overrides: str):
    return composed_of("model=qwen3-8b", "experiment=paper", "hardware=8gpu", *overrides)


def rl_step(steps_prompts: int = 64) -> float:
    """Seconds of the arithmetic of one RL step at `ARITHMETIC`."""
    answers = steps_prompts * 8
    return (
        2 * N * answers * 350 / (PEAK * 0.04)  # decoding
        + 2 * N * steps_prompts * 700 / (PEAK * 0.45)  # reading the prompts once
        + 2 * 2 * N * answers * 1050 / (PEAK * 0.45)  # old and reference log-probabilities
        + 8 * N * answers * 1050 / (PEAK * 0.35)  # update with checkpointing
    )


def test_steps_tokens_and_hours_by_hand():
    config = composed(*ARITHMETIC, "evaluate.stages=[rl]", *NO_BREAKS)
    found = phases(config, architecture(config), 22703, 5217)
    cold, rl, played, retrained, *_, evaluation = found
    assert [phase.name.split(",")[0] for phase in found] == [
        "cold start (SFT)", "RL 1 (SELF-GRPO)", "self-play 1", "retraining 1 (SFT)",
        "RL 2 (SELF-GRPO)", "self-play 2", "retraining 2 (SFT)", "evaluation", "evaluation",
    ]  # fmt: skip
    assert (cold.steps, cold.tokens) == (1000 // 64 * 2, 1000 // 64 * 2 * 64 * 1050)
    assert cold.hours == pytest.approx([8 * N * cold.tokens / (PEAK * 0.35) / 3600] * 2)
    assert (rl.steps, rl.tokens) == (15000 // 64 * 3, 15000 // 64 * 3 * 64 * 8 * 1050)
    assert rl.hours == pytest.approx([rl.steps * rl_step() / 3600] * 2)
    # 8,000 dialogues of Table 2 go on for two turns of eight answers each.
    assert (played.steps, played.tokens) == (2, 2 * 8000 * 8 * 1050)
    seconds = 2 * N * 16000 * 700 / (PEAK * 0.45) + 2 * N * 16000 * 8 * 350 / (PEAK * 0.04)
    assert played.hours == pytest.approx([seconds / 3600] * 2)
    assert retrained.steps == 23000 // 64 * 2  # the best response to every prompt of B
    # Test rows and the sample of training rows, 256 at a time.
    assert (evaluation.steps, evaluation.tokens) == (22, (5217 + 256) * 1050)


def test_what_comes_beside_the_arithmetic_of_a_step_is_counted():
    sizes = ("flywheel.iterations=1", "trainer.total_training_steps=25", "trainer.test_freq=10")
    aside = "plan.step_seconds={weights: [9, 3], sleep: [6, 2], rest: [4, 1]}"
    config = composed(
        *ARITHMETIC, *sizes, aside, "trainer.save_freq=12", "plan.disk_gbs=[1, 4]", "dev_rows=64"
    )
    model = architecture(config)
    rl = phases(config, model, 22703, 5217)[1]
    validation = 2 * N * 64 * 350 / (PEAK * 0.04) + 2 * N * 64 * 700 / (PEAK * 0.45)
    for hours, seconds, disk in zip(rl.hours, (6, 19), (4, 1), strict=True):
        checkpoint = 14 * N / (disk * 1e9)
        # Validation before the first step and after 10, 20 and 25; checkpoints after 12, 24 and 25.
        seconds = 25 * (rl_step() + seconds) + 4 * validation + 3 * checkpoint
        assert hours == pytest.approx(seconds / 3600)
    plain = composed(*ARITHMETIC, "actor_rollout_ref.actor.use_kl_loss=false",
                     "actor_rollout_ref.rollout.free_cache_engine=false")  # fmt: skip
    parts = step_seconds(plain, model)
    assert "reference log-probabilities" not in parts and "sleep and waking up" not in parts


@pytest.fixture(scope="module")
def appendix_e():
    return composed("experiment=paper_exact")


def test_a_range_goes_from_the_better_to_the_worse(appendix_e):
    assert list(pair([0.14, 0.35])) == [0.35, 0.14] and list(pair(0.3)) == [0.3, 0.3]
    with pytest.raises(ValueError, match="neither a number nor a pair"):
        pair([1, 2, 3])
    low, high = step_seconds(appendix_e, architecture(appendix_e))["update"]
    assert (low, high) == pytest.approx([8 * N * 512 * 1050 / (PEAK * share) for share in (0.35, 0.14)])


def test_the_floor_of_appendix_e_by_hand(appendix_e):
    model = architecture(appendix_e)
    found = floors(appendix_e, model)
    tokens, head = 512 * 1050, 4 * 32 * 128 * 36  # FLOPs of attention for a token of context
    forward = (2 * N + head * 525) * tokens
    update = found["update"]
    assert update.flops == 4 * forward and update.bound == "arithmetic"
    assert update.least == pytest.approx(4 * forward / PEAK)
    # 64 rows a rank in micro-batches of 16; two updates of 32 prompts.
    assert update.memory == 4 * 8 * N + 2 * 28 * N / 8 and update.links == 4 * 8 * N * 7 / 8
    log_probs = found["old log-probabilities"]
    assert log_probs == found["reference log-probabilities"]
    assert (log_probs.flops, log_probs.memory) == (forward, 4 * 4 * N)
    # One replica of eight GPUs: 350 steps read an eighth of the weights and of all rows' caches.
    generation, cache = found["generation"], 512 * 350 * (700 + 175) * 2 * 2 * 8 * 128 * 36 / 8
    batches = 4  # of 64 x 700 prompt tokens, 12,400 at a time
    assert generation.memory == pytest.approx((350 + batches) * 2 * N / 8 + cache)
    assert generation.flops == pytest.approx(
        (2 * N + head * 350) * 64 * 700 + (2 * N + head * (700 + 175)) * 512 * 350
    )
    # Two all-reduces a layer: a token's 4,096 numbers of two bytes, twice round seven eighths of the ring.
    assert generation.links == pytest.approx(2 * 36 * (64 * 700 + 512 * 350) * 4096 * 2 * 2 * 7 / 8)
    assert generation.bound == "memory" and generation.least == pytest.approx(generation.memory / 3.35e12)
    assert found["weights to vLLM"].links == 2 * N * 7 / 8
    for name, (low, _) in step_seconds(appendix_e, model).items():
        assert name not in found or found[name].least < low  # no estimate is better than the hardware


@pytest.mark.parametrize(
    ("model", "hardware", "gpu"),
    [
        ("qwen3-8b", "multinode", "h100-80gb"), ("qwen3-8b", "8gpu", "h100-80gb"),
        ("qwen3-8b", "4gpu", "h100-80gb"), ("qwen3-8b", "2gpu", "h100-80gb"),
        ("qwen3-8b", "1gpu_lora", "h100-80gb"), ("qwen3-1.7b", "1gpu_lora", "rtx4090-24gb"),
    ],
)  # fmt: skip
def test_an_hour_is_lost_at_most(model, hardware, gpu):
    config = composed_of(f"model={model}", "experiment=paper", f"hardware={hardware}", f"plan.gpu={gpu}")
    _, slowest = sum(step_seconds(config, architecture(config)).values())
    assert config.trainer.save_freq * slowest <= 3600
