"""What the Hub's client raises: which of it is worth another trial, and what it means to a user."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Literal, TypeVar

from glossogenesis.exceptions import StudyError

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds between trials, where the Hub itself names no time."""

LONGEST_WAIT = 600.0
"""Seconds; the Hub counts requests over five minutes."""

PASSING_STATUS = (408, 429)

Result = TypeVar("Result")


@dataclass(frozen=True)
class HubPlace:
    """What was asked of the Hub, for messages."""

    repository: str
    revision: str | None = None
    kind: Literal["model", "dataset"] = "model"
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repository}{revision}{f'/{self.file}' if self.file else ''}"

    @property
    def key(self) -> str:
        """Where the user wrote it."""
        return "`source` in the sheet" if self.kind == "model" else "`text.dataset`"


def patiently(action: Callable[[], Result], place: HubPlace) -> Result:
    """Do what needs the Hub, again after growing waits while the trouble may pass.

    The Hub's own `Retry-After` is waited for where it names one. StudyError says what a trouble
    that stays means; the token is in no message.
    """
    # The base of the client's network errors is of another library in each version of it.
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: not exported
        HTTPError,
        RevisionResolutionError,
    )

    for wait in (*WAITS, None):
        try:
            return action()
        except (HTTPError, RevisionResolutionError, OSError, ValueError) as raised:
            error = _cause(raised)
            if wait is None or not _may_pass(error):
                raise study_error(error, place) from None
            seconds = wait if (named := _retry_after(error)) is None else named
            print(
                f"{place}: {first_line(error)}; trying again in {seconds:g} s",
                file=sys.stderr,
                flush=True,
            )
            time.sleep(seconds)
    raise AssertionError("the last trial returns or raises")


def study_error(error: Exception, place: HubPlace) -> StudyError:
    """Return what an error of the Hub's client means, with its fix."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{'datasets/' if place.kind == 'dataset' else ''}"
    page += place.repository
    status = _status_of(error)
    if isinstance(error, errors.HFValidationError):
        problem = f"no Hub id such as `organisation/name`; fix {place.key}"
        if place.kind == "model":
            problem = f"neither a folder nor a Hub id; fix {place.key}"
    elif isinstance(error, errors.GatedRepoError) and status == 401:
        problem = (
            f"gated, and there is no token; accept its terms on {page}, and set HF_TOKEN to a "
            "token of the account that did"
        )
    elif isinstance(error, errors.GatedRepoError):
        problem = (
            f"gated, and the account of HF_TOKEN has no access; ask for it on {page}, and give the "
            "token leave to read gated repositories"
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        problem = "the Hub has no such revision; write a branch, a tag or a full commit"
    elif isinstance(error, errors.RepositoryNotFoundError):
        problem = (
            f"the Hub has no such {place.kind}, or it is private; fix {place.key}, or set "
            "HF_TOKEN to a token that may read it"
        )
    elif isinstance(error, errors.RemoteEntryNotFoundError):
        problem = "the Hub lists this file but does not have it; choose another revision"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        problem = "not at hand, and HF_HUB_OFFLINE forbids the network; unset it and run again"
    elif status == 401:
        problem = "the Hub refuses the token; set HF_TOKEN to one that is valid, or unset it"
    elif status == 403:
        problem = "the token may not read it; give the token of HF_TOKEN leave to read it"
    elif status == 429:
        problem = (
            f"the Hub limits requests, also after {len(WAITS) + 1} trials; run again later, or set "
            "HF_TOKEN, which raises the limit"
        )
    elif status is not None:
        problem = f"the Hub answers {first_line(error)}; run again later"
    elif isinstance(error, JSONDecodeError):
        problem = "what answers is not the Hub; check HF_ENDPOINT and the proxy"
    elif isinstance(error, ValueError):
        problem = f"cannot be downloaded ({first_line(error)}); use another file or revision"
    elif getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        problem = (
            "the disk is full while downloading; free some space, or set HF_HOME (or, with "
            "`hub.keep_downloads: false`, `pathvars.results`) to a folder on a larger disk"
        )
    elif _is_of_this_machine(error):
        problem = f"cannot be written here ({first_line(error)}); fix it and run again"
    else:
        problem = (
            f"the Hub cannot be reached ({first_line(error)}); run again where it can be. Or fetch "
            "on another machine and set `hub.offline: true`"
        )
    return StudyError(f"{place}: {problem}")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _cause(error: Exception) -> Exception:
    """Return what led to an error that only says that the cache is of no help either."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionResolutionError

    if isinstance(error, (LocalEntryNotFoundError, RevisionResolutionError)):
        return error.__cause__ if isinstance(error.__cause__, Exception) else error
    return error


def _may_pass(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = _status_of(error)
    if status is not None:
        return status in PASSING_STATUS or status >= 500
    if isinstance(error, (ValueError, OfflineModeIsEnabled)):
        return False
    # Errors of the network, and a body that is shorter than announced, carry no number.
    return not _is_of_this_machine(error)


def _is_of_this_machine(error: Exception) -> bool:
    has_number = getattr(error, "errno", None) is not None
    return has_number and not isinstance(error, (ConnectionError, TimeoutError))


def _status_of(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _retry_after(error: Exception) -> float | None:
    """Return the seconds that the Hub asks to wait; dates are not read."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    named = str(headers.get("Retry-After", "")).strip()
    return min(float(named), LONGEST_WAIT) if named.isascii() and named.isdigit() else None
