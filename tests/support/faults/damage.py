"""What happens to files on a failing disk or by a careless hand."""

from collections.abc import Callable
from pathlib import Path


def cut_in_half(path: Path) -> None:
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def flip_a_late_bit(path: Path) -> None:
    """Change one bit near the end of a file, where tensors and footers are."""
    content = bytearray(path.read_bytes())
    content[-len(content) // 10] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    """Leave nothing in a file."""
    path.write_bytes(b"")


def delete(path: Path) -> None:
    """Remove a file."""
    path.unlink()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut in half": cut_in_half,
    "a bit flipped": flip_a_bit,
    "a late bit flipped": flip_a_late_bit,
    "emptied": empty,
    "deleted": delete,
}
