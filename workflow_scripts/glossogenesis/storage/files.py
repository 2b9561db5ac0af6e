"""Small files: written whole or not at all, read as text or records, one line for a full disk.

What a manifest says is acted on: files that it names are opened and, by `purge`, deleted. So names
of files are checked too: they stay beside the manifest.

They need no more of a file system than that a new file is made by one process alone, which network
file systems keep too; their `flock` may succeed for everybody. What a killed process held is taken
over: on the same machine at once, on another one when it was not renewed for `LEASE_SECONDS`.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import socket
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar, cast

from filelock import SoftFileLease, Timeout
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import (
    BLANK_SEAL,
    SEAL_KEY,
    check_seal,
    file_digest,
    fill_seal,
)

if TYPE_CHECKING:
    from filelock import OwnerRecord

A_DAY = 86_400.0
"""Seconds after which another machine's temporary file counts as left by a killed process."""

SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "bzip2": ".bz2", "xz": ".xz"}

_BEGINNINGS = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
}

LONGEST_BEGINNING = 8

Record = TypeVar("Record")


def plain_name(name: Any) -> str:
    """Return the name of a file of the same folder; ValueError where it leads elsewhere."""
    if (
        not isinstance(name, str)
        or name in ("", ".", "..")
        or not name.isprintable()
        or any(character in name for character in "/\\")
    ):
        raise ValueError(f"{name!r:.80} is no name of a file beside this one")
    return name


PlainName = Annotated[str, AfterValidator(plain_name)]
"""The name of a file beside the record that names it."""


Count = Annotated[int, Field(ge=0, lt=2**63)]
"""How many of something there are, as an array can count them."""

DIGESTS = "digests.json"

_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
# polars and safetensors put the number into the text of errors of their own.
_TEXTS = tuple(f"os error {number})" for number in _NUMBERS)

LEASE_SECONDS = 240.0
"""A network file system may show a renewal to other machines a minute late."""

RENEWAL_SECONDS = 30.0
SECONDS_TO_GIVE_UP = 0.5
"""Who only looks whether a lease is held holds it for a moment."""


@contextmanager
def atomic_path(target: Path | str, when_full: str = "Free some space") -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` if the block succeeds.

    The file is flushed to disk before it is renamed. If the block fails, nothing remains; what a
    killed process left of an earlier attempt is removed. StudyError where the disk is full, with
    what to do then, `when_full`.
    """
    with full_disk_in_one_line(target, when_full), _atomic_path(Path(target)) as temporary:
        yield temporary


@contextmanager
def _atomic_path(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    prefix = f"{_of_this_machine(target)}{os.getpid()}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def sealed_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path as `atomic_path` does, and fill in the seal of what is written there.

    ValueError where it does not hold exactly one `BLANK_SEAL`.
    """
    target = Path(target)
    with atomic_path(target) as temporary:
        yield temporary
        fill_seal(temporary, target.suffix)


def write_text(target: Path | str, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path | str, content: dict[str, Any], *, seal_in: Sequence[str] = ()) -> None:
    """Write a JSON object atomically, with a seal.

    It is indented and has sorted keys, so that equal content is equal bytes. `seal_in` leads to the
    object in it that gets the seal, where a format has no room for further keys at the top.
    """
    text = json.dumps(_with_seal(content, seal_in), ensure_ascii=False, indent=2, sort_keys=True)
    with sealed_path(target) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file, without its seal; StudyError where it is missing, damaged or not JSON."""
    text = read_text(path, "JSON file", "run the workflow to make it")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not valid JSON ({error}); delete it and rerun") from None
    check_seal(path, "JSON file")
    if isinstance(content, dict):
        content.pop(SEAL_KEY, None)
    return content


def _with_seal(content: dict[str, Any], place: Sequence[str]) -> dict[str, Any]:
    """Return an object with a place for the seal in the object that `place` leads to."""
    if not place:
        return content | BLANK_SEAL
    key, *rest = place
    return content | {key: _with_seal(content[key], rest)}


def _of_this_machine(target: Path) -> str:
    """Return how names of a target's temporary files begin; the number of a process follows."""
    return f".{target.name}.{socket.gethostname()}."


def _remove_abandoned(target: Path) -> None:
    """Remove what killed processes left of earlier attempts at a target."""
    ours = _of_this_machine(target)
    for path in target.parent.iterdir():
        if not (path.name.startswith(f".{target.name}.") and path.name.endswith(".part")):
            continue
        # Another process may have finished with it meanwhile.
        with suppress(FileNotFoundError):
            if path.name.startswith(ours):
                abandoned = not _is_alive(int(path.name.removeprefix(ours).split(".")[0]))
            else:
                # Whether a process of another machine lives cannot be known from here.
                abandoned = time.time() - path.stat().st_mtime > A_DAY
            if abandoned:
                path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It lives, as another user's.
        return True
    return True


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The process mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def filled_cells(cells: Sequence[str], columns: int = 0) -> list[str]:
    """Return the cells of a row without empty ones at its end, but at least `columns` of them.

    Spreadsheets write surplus separators, which mean nothing.
    """
    end = len(cells)
    while end > columns and not cells[end - 1].strip():
        end -= 1
    return list(cells[:end])


def read_text(path: Path | str, what: str, fix: str) -> str:
    """Read a text file.

    It may be compressed. `what` names the kind of file, such as `lexicon`; `fix` says what to do
    where there is none. StudyError where it is missing, unreadable or not UTF-8.
    """
    try:
        with opened(Path(path)) as file:
            return TextIOWrapper(file, encoding="utf-8-sig").read()
    except StudyError:
        raise
    except FileNotFoundError:
        raise StudyError(f"{path}: no such {what}; {fix}") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not UTF-8 text; save the {what} as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(f"{path}: the {what} cannot be read ({reason}); {fix}") from None


def compression_of(path: Path) -> str | None:
    """Return a file's compression, one of `SUFFIXES`; None where it has none.

    StudyError where it is an archive of files.
    """
    with path.open("rb") as file:
        beginning = file.read(LONGEST_BEGINNING)
    for first, archive in _ARCHIVES.items():
        if beginning.startswith(first):
            raise StudyError(f"{path}: {archive}; unpack it, and name the files that it holds")
    return next((name for first, name in _BEGINNINGS.items() if beginning.startswith(first)), None)


def suffix_within(path: Path) -> str:
    """Return the end of a file's name without that of its compression, in lower case."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in SUFFIXES.values():
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading as it is without its compression; StudyError where it is damaged."""
    compression = compression_of(path)
    try:
        with _stream(path, compression) as file:
            yield file
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise StudyError(_damaged(path, compression, error)) from None
    except OSError as error:
        if compression is None:
            raise
        raise StudyError(_damaged(path, compression, error)) from None


def _stream(path: Path, compression: str | None) -> Any:
    if compression == "zstd":
        # Before Python 3.14 only pyarrow reads it; other files do not need the moment it takes.
        import pyarrow as pa

        return io.BufferedReader(cast(io.RawIOBase, pa.input_stream(str(path), compression="zstd")))
    openers: dict[str | None, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    return openers.get(compression, open)(path, "rb")


def _damaged(path: Path, compression: str | None, error: Exception) -> str:
    reason = str(error).strip() or type(error).__name__
    return f"{path}: damaged {compression} file ({reason}); download or write it again"


def record_of(kind: type[Record], content: Any) -> Record:
    """Make a dataclass, and those that it holds, of the content of a JSON file.

    ValueError names the first key that is missing, unknown or of another type than its field.
    """
    try:
        adapter = _adapter(kind)  # type: ignore[arg-type]  # a type is hashable
        record: Record = adapter.validate_json(json.dumps(content), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{key!r:.80}: {first['msg']}") from None
    return record


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def record_digests(folder: Path) -> None:
    """Write the SHA-256 of every file in a folder into it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != DIGESTS]
    digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    write_json(folder / DIGESTS, {"files": digests})


def has_recorded_bytes(folder: Path) -> bool:
    """Return whether a folder has its digests, and every file is the one they were taken of."""
    try:
        recorded = read_json(folder / DIGESTS)["files"]
        return all(file_digest(folder / name) == digest for name, digest in recorded.items())
    except (OSError, StudyError):
        return False


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, says that a disk or a quota is full."""
    while error is not None:
        if getattr(error, "errno", None) in _NUMBERS or any(text in str(error) for text in _TEXTS):
            return True
        error = error.__context__
    return False


@contextmanager
def full_disk_in_one_line(path: Path | str, options: str = "Free some space") -> Iterator[None]:
    """Turn what a full disk or an exhausted quota raises into StudyError with the `options`."""
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise StudyError(
            f"{path}: the disk is full. {options}. What is finished stays: rerun to continue"
        ) from None


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold an output while it is made; wait where a job of a killed run is still making it.

    The lease is a hidden file beside the output, removed at the end.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = lease(output.parent / f".{output.name}.lock")
    try:
        lock.acquire(timeout=SECONDS_TO_GIVE_UP)
    except Timeout:
        print(
            f"Waiting for {named(lock.owner)}, which is making {output.parent}; if it was killed "
            f"there, for {LEASE_SECONDS / 60:.0f} minutes",
            flush=True,
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lease(path: Path) -> SoftFileLease:
    """Return the lease of a file, not yet acquired."""
    return SoftFileLease(
        path,
        lease_duration=LEASE_SECONDS,
        heartbeat_interval=RENEWAL_SECONDS,
        poll_interval=0.1,
    )


def named(owner: OwnerRecord | None) -> str:
    """Return what messages call the holder of a lease."""
    return f"process {owner.pid} on {owner.hostname}" if owner else "another process"
