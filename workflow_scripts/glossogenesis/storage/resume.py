"""The state of an unfinished training, so that an interrupted one goes on where it stood.

One safetensors file holds weights and moments, and the rest as JSON in its header. It lies in a
folder named by a digest of all that the training depends on, so that no other training takes it up.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from glossogenesis.storage.files import sealed_path
from glossogenesis.storage.safetensors_file import write_safetensors
from glossogenesis.storage.seals import SealState, seal_state, sealed_json

FILE_NAME = "state.safetensors"
HEADER_KEY = "progress"


@dataclass(frozen=True)
class ResumeState:
    """Keeps and finds the state of one training in `folder`, which is that job's alone."""

    folder: Path
    digest: str

    @property
    def path(self) -> Path:
        """The file that holds the state."""
        return self.folder / self.digest / FILE_NAME

    def save(self, tensors: Mapping[str, Tensor], facts: Any) -> None:
        """Replace the state; `facts` is anything JSON holds, and floats come back exactly."""
        header = {HEADER_KEY: sealed_json({"facts": facts})}
        with sealed_path(self.path) as temporary:
            write_safetensors(temporary, tensors, header)

    def load(self) -> tuple[dict[str, Tensor], Any] | None:
        """Return tensors and facts; None without a state, or where it is damaged."""
        try:
            if seal_state(self.path) is not SealState.WHOLE:
                return None
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads(file.metadata()[HEADER_KEY])["facts"]
                return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118  # not a dict
        except (FileNotFoundError, SafetensorError):
            return None

    def remove(self) -> None:
        """Remove the state, and those of trainings with other settings that were given up."""
        if not self.folder.is_dir():
            return
        for state in self.folder.glob(f"*/{FILE_NAME}"):
            shutil.rmtree(state.parent)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
