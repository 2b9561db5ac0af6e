"""When the state of an unfinished training is kept, so that an interrupted one goes on there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from glossogenesis.storage.resume import ResumeState

SHARE_OF_TIME = 0.05
"""Of the time, at most about this share goes into keeping the state."""


class StateKeeper:
    """Decides when to keep the state: every so many seconds, and more rarely if that is slow."""

    def __init__(self, state: ResumeState, seconds_between: float) -> None:
        self._state = state
        self._seconds_between = seconds_between
        self._due = time.monotonic() + seconds_between

    def keep_if_due(self, state_now: Callable[[], tuple[Mapping[str, Tensor], Any]]) -> None:
        """Keep the state that `state_now` returns, if it is time."""
        start = time.monotonic()
        if start < self._due:
            return
        self._state.save(*state_now())
        end = time.monotonic()
        pause = self._seconds_between
        if pause > 0:
            pause = max(pause, (end - start) / SHARE_OF_TIME)
        self._due = end + pause
