"""What a model can read, known from its configuration before any of its weights are there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError
from glossogenesis.models.anatomy import SUPPORTED_ARCHITECTURES, require_supported

ABSOLUTE = ("gpt2",)
"""Architectures that hold a vector for each position and have none for a later one."""

WITHOUT_POSITIONS = ("bloom",)
"""Architectures that read texts of any length alike (ALiBi)."""

POSITION_KEYS = ("n_positions", "max_position_embeddings")
LAYER_KEYS = ("num_hidden_layers", "n_layer")

EXTENDED_BY_FACTOR = ("linear", "dynamic", "yarn")
"""Variants of rotary positions whose factor stretches the positions of the original model."""


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

    def longer(self, tokens: int, what: str, described_as: str, mend: str) -> str | None:
        """Say where texts have more tokens than positions; None where they fit.

        StudyError where the model cannot read them at all.
        """
        if self.positions is None or tokens <= self.positions:
            return None
        line = f"{described_as}: {what} of {tokens} tokens, but the model has {self.positions}"
        if self.is_absolute:
            raise StudyError(f"{line} positions and cannot read on; {mend}")
        return (
            f"{line} positions in training (`max_position_embeddings`), and reads later tokens "
            f"unlike any it has seen; {mend}"
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
