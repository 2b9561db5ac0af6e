"""Where a job computes, apart from `loading`: an edit there must not retrain any autoencoder."""

from __future__ import annotations

from glossogenesis.exceptions import StudyError


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` where there is a GPU, else `cpu`; anything else stays.

    Raises:
        StudyError: `cuda` is asked for and there is no GPU.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise StudyError("device 'cuda' is asked for, but no GPU is visible; write `auto` or `cpu`")
    return device
