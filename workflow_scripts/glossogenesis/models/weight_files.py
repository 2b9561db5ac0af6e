"""What a checkpoint's folder holds: its configuration, what it can read, its weight files.

A folder may hold more: another model's shards, a copy in another format, an adapter. What is loaded
is `model.safetensors` where there is one, else the shards that the index names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import SUPPORTED_ARCHITECTURES, require_supported
from glossogenesis.storage.files import plain_name

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = "*-of-*.safetensors"
PUBLISHERS = "consolidated*.safetensors"

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")

_OTHER_KINDS = (
    (
        ("adapter_model.*", "adapter_config.json"),
        "holds a LoRA adapter, which changes its base model{base} and is none itself; merge it "
        "into its base model (`merge_and_unload` of peft), save the whole, and name that folder",
    ),
    (("*.gguf", "*.ggml"), "holds GGUF weights ({names}), which are quantised; name the original"),
    (
        (PUBLISHERS, "consolidated*.pth"),
        "holds weights in the format of their publisher ({names}); convert them to that of "
        "transformers, or name the repository that has `model.safetensors`",
    ),
    (
        ("*.distcp", "*.metadata", "zero_to_fp32.py", "mp_rank_*", "*optim_states.pt"),
        "holds the state of a training ({names}) and no model; convert it with the tool of the "
        "framework that saved it, and name the folder that `save_pretrained` wrote",
    ),
    (
        ("sae_weights.safetensors",),
        "holds a sparse autoencoder and no language model; name a model",
    ),
    (
        ("model.*.safetensors",),
        "holds only variants of the weights ({names}), which are loaded by no name; rename the "
        "wanted one to `model.safetensors`",
    ),
    (
        PICKLES,
        "weights are pickles ({names}), which can run code when opened; name a revision with "
        "safetensors, or convert them to safetensors and give the new folder as `source`",
    ),
)
"""Patterns of files, and what a folder is that holds them and no safetensors weights."""

ABSOLUTE = ("gpt2",)
"""Architectures that hold a vector for each position and have none for a later one."""

WITHOUT_POSITIONS = ("bloom",)
"""Architectures that read texts of any length alike (ALiBi)."""

POSITION_KEYS = ("n_positions", "max_position_embeddings")
LAYER_KEYS = ("num_hidden_layers", "n_layer")

EXTENDED_BY_FACTOR = ("linear", "dynamic", "yarn")
"""Variants of rotary positions whose factor stretches the positions of the original model."""


def needed_weights(names: Collection[str]) -> list[str]:
    """Return the weights among the names of a folder's files; of shards, all that it may need.

    Empty where there are none that transformers would load.
    """
    if WHOLE in names:
        return [WHOLE]
    shards = [name for name in sorted(names) if fnmatchcase(name, SHARDS)]
    return [name for name in shards if not fnmatchcase(name, PUBLISHERS)] if INDEX in names else []


def require_weights(
    place: object, names: Collection[str], adapter: Mapping[str, Any] | None = None
) -> None:
    """StudyError where a folder's files, given by their names, have no weights to load.

    The message says what the folder holds instead; `adapter` is the content of its
    adapter_config.json, where that is at hand.
    """
    if needed_weights(names):
        return
    if INDEX in names:
        raise StudyError(
            f"{place}: {INDEX} is there, but no file that it names; download them, or remove it"
        )
    if shards := [name for name in sorted(names) if fnmatchcase(name, "model" + SHARDS)]:
        raise StudyError(
            f"{place}: weights in parts ({', '.join(shards[:3])}) without their {INDEX}, which "
            "says where each is; download it too"
        )
    for patterns, explained in _OTHER_KINDS:
        found = sorted(name for name in names if any(fnmatchcase(name, one) for one in patterns))
        if found:
            base = (adapter or {}).get("base_model_name_or_path")
            shown = {"names": ", ".join(found[:3]), "base": f", {base}," if base else ""}
            raise StudyError(f"{place}: {explained.format(**shown)}")
    raise StudyError(
        f"{place}: no {INDEX} and no {WHOLE}; only safetensors weights are loaded. Name the "
        "revision, folder or subfolder that holds them"
    )


def check_weights(folder: Path) -> list[Path]:
    """Return the weight files that are loaded from a folder, each present and complete.

    Raises:
        StudyError: there are none, or one is missing or truncated; the message names the file, or
            says what the folder holds instead.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    # A configuration may name the file, which goes before all others.
    named = _json(folder / "config.json").get("transformers_weights")
    try:
        first = plain_name(named) if named is not None else WHOLE if WHOLE in names else INDEX
    except ValueError as error:
        raise StudyError(f"{folder / 'config.json'}: transformers_weights: {error}") from None
    if first not in names:
        require_weights(folder, names - {named}, _json(folder / "adapter_config.json"))
    sets = {
        name: _indexed(folder / name) if name.endswith(".index.json") else [folder / name]
        for name in (first, INDEX)
        if name in names
    }
    # Another set is not loaded, but one that is in pieces is a copy that went wrong.
    for path in (path for paths in sets.values() for path in paths):
        _check_complete(path)
    return sets[first]


def surplus_weights(folder: Path) -> list[str]:
    """Return names of weight files that are there and are not loaded."""
    used = {path.name for path in check_weights(folder)}
    return sorted(path.name for path in folder.glob("model*.safetensors") if path.name not in used)


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a file, an empty one where there is none; others check it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _indexed(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [index.parent / plain_name(name) for name in sorted(names)]
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise StudyError(
            f"{index}: no readable weight_map ({error!r}); download it again"
        ) from None


def _check_complete(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StudyError(f"{path}: missing, though the index names it; download it again")
    try:
        # The header is enough, and numpy is lighter to import than torch.
        with safe_open(path, framework="np"):
            return
    except SafetensorError as error:
        raise StudyError(
            f"{path}: truncated or damaged ({error}); download or write it again"
        ) from None


@dataclass(frozen=True)
class ModelLimits:
    """The limits that a configuration states."""

    architecture: str
    positions: int | None
    """Tokens that a text may have; None where there is no limit, or none is stated."""
    is_absolute: bool
    """Whether a longer text cannot be read at all; else it is read unlike in training."""
    vocabulary: int | None
    """Tokens that the model embeds."""
    layers: int | None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelLimits:
        """Read the content of a config.json."""
        architecture = str(config.get("model_type"))
        positions = None if architecture in WITHOUT_POSITIONS else _positions(config)
        vocabulary, layers = config.get("vocab_size"), _first(config, LAYER_KEYS)
        return cls(
            architecture,
            positions,
            architecture in ABSOLUTE,
            vocabulary if isinstance(vocabulary, int) else None,
            layers,
        )

    def longer(self, tokens: int, what: str, described_as: str, fix: str) -> str | None:
        """Say where texts have more tokens than positions; None where they fit.

        StudyError where the model cannot read them at all.
        """
        if self.positions is None or tokens <= self.positions:
            return None
        line = f"{described_as}: {what} of {tokens} tokens, but the model has {self.positions}"
        if self.is_absolute:
            raise StudyError(f"{line} positions and cannot read on; {fix}")
        return (
            f"{line} positions in training (`max_position_embeddings`), and reads later tokens "
            f"unlike any it has seen; {fix}"
        )

    def check_vocabulary(self, largest: int, what: str, described_as: str) -> None:
        """StudyError where a token id is beyond what the model embeds."""
        if self.vocabulary is not None and largest >= self.vocabulary:
            raise StudyError(
                f"{described_as}: {what} have token id {largest}, but the model embeds only "
                f"{self.vocabulary} tokens; its tokenizer belongs to another model"
            )


def check_supported(config: Mapping[str, Any], place: Path | str) -> None:
    """StudyError where a config.json is of an architecture that is not supported.

    The message has the list, and what is near.
    """
    architecture = str(config.get("model_type"))
    try:
        require_supported(architecture)
    except StudyError as error:
        raise StudyError(f"{place}: {error}; {_near(architecture, config)}") from None


def _near(architecture: str, config: Mapping[str, Any]) -> str:
    inner = config.get("text_config")
    text = str(inner.get("model_type")) if isinstance(inner, Mapping) else f"{architecture}_text"
    if text in SUPPORTED_ARCHITECTURES:
        return f"its text model, {text!r}, is supported: save that part alone as a checkpoint"
    family = re.match("[a-z]+", architecture)
    relatives = [
        name for name in SUPPORTED_ARCHITECTURES if family and name.startswith(family[0])
    ] or get_close_matches(architecture, SUPPORTED_ARCHITECTURES, n=1)
    if relatives:
        return f"near to it are models of {', '.join(relatives)}: use one of these"
    return "none of these is near to it: use another model"


def _positions(config: Mapping[str, Any]) -> int | None:
    """Return the positions of a model, stretched where its rotary positions are."""
    stated = _first(config, POSITION_KEYS)
    rotary = config.get("rope_parameters") or config.get("rope_scaling")
    if stated is None or not isinstance(rotary, Mapping):
        return stated
    variant = rotary.get("rope_type", rotary.get("type"))
    factor, original = rotary.get("factor"), rotary.get("original_max_position_embeddings")
    if variant in EXTENDED_BY_FACTOR and isinstance(factor, int | float):
        return max(stated, int(factor * (original if isinstance(original, int) else stated)))
    return stated


def _first(config: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    found = (config[key] for key in keys if isinstance(config.get(key), int))
    return next(found, None)


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint.

    Raises:
        StudyError: it is missing or is not a JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: missing; a checkpoint folder needs its config.json") from None
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not readable as JSON ({error}); save it again") from None
    if not isinstance(config, dict):
        raise StudyError(f"{path}: not a JSON object; save it again")
    return config
