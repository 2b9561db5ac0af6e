"""The Parquet files of a dataset on the Hugging Face Hub, downloaded one at a time."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from glossogenesis.errors import StudyError

SHOWN_FILES = 3
"""Files that an error message gives as examples."""


@dataclass(frozen=True)
class HubDataset:
    """A dataset at one commit."""

    dataset: str
    commit: str
    files: tuple[str, ...]
    """Every file of the dataset at that commit, in the order of names."""

    @classmethod
    def find(cls, dataset: str, revision: str | None) -> HubDataset:
        """Resolve a revision (a branch, tag or commit; `main` where None) and list its files.

        StudyError where there is no such dataset or revision, or the Hub cannot be reached.
        """
        from huggingface_hub import HfApi

        with _clear_errors(dataset, revision):
            commit = str(HfApi().dataset_info(dataset, revision=revision).sha)
            files = HfApi().list_repo_files(dataset, revision=commit, repo_type="dataset")
        return cls(dataset, commit, tuple(sorted(files)))

    def matching(self, pattern: str, language: str) -> tuple[str, ...]:
        """Return the Parquet files whose names match a pattern, in the order of names.

        `*` matches slashes too. StudyError where there are none.
        """
        parquet = [name for name in self.files if name.endswith(".parquet")]
        found = tuple(name for name in parquet if fnmatchcase(name, pattern))
        if not found:
            shown = ", ".join(parquet[:SHOWN_FILES]) if parquet else "none"
            raise StudyError(
                f"{self.dataset}: none of its {len(parquet)} Parquet files matches "
                f"`text.files.{language}: {pattern}` (its first: {shown}); mend the pattern"
            )
        return found

    def download(self, name: str) -> Path:
        """Return a file on this machine, downloaded unless the Hub's cache has it."""
        from huggingface_hub import hf_hub_download

        with _clear_errors(self.dataset, self.commit):
            path = hf_hub_download(self.dataset, name, revision=self.commit, repo_type="dataset")
        return Path(path)


@contextmanager
def _clear_errors(dataset: str, revision: str | None) -> Iterator[None]:
    """Turn what the Hub's client raises into StudyError."""
    # The base of the client's network errors is of another library in each version of it.
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: not exported
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f"{dataset}@{revision}" if revision else dataset
    try:
        yield
    except HFValidationError:
        raise StudyError(f"{dataset}: no Hub id; mend `text.dataset`") from None
    except RevisionNotFoundError:
        raise StudyError(
            f"{at}: the Hub has no such revision; write a branch, a tag or a full commit"
        ) from None
    except RepositoryNotFoundError:
        raise StudyError(f"{dataset}: no such dataset, or it needs `hf auth login`") from None
    except HfHubHTTPError as error:
        raise StudyError(f"{at}: download failed ({_first_line(error)}); run again") from None
    except (HTTPError, OSError) as error:
        # The client's own errors of connection and offline mode are among these.
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise StudyError(
                f"{at}: the disk is full while downloading; free some space, or set HF_HOME to a "
                "folder on a larger disk"
            ) from None
        raise StudyError(
            f"{at}: the Hub cannot be reached ({_first_line(error)}); run where it can be, or "
            "download the files and give them as `text.kind: files`"
        ) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
