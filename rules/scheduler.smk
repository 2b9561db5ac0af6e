"""
Lets Snakemake's own process sleep while jobs run.

REQUIRED INPUTS:
    the scheduler, which Snakemake makes before it starts the first job

Snakemake 9 starts a timer in every round of its scheduler, which starts the next round a second later,
which starts a timer, and each finished job begins another such chain. docs/scale.md describes it.
"""

import threading
import time


def end_chains_of_rounds(scheduler):
    """Have timers start rounds only while --max-jobs-per-timespan holds jobs back, one at a time.

    Everything else that makes a job ready, or frees what it needs, starts a round by itself.
    """
    due = 0.0

    def start_timer(seconds):
        nonlocal due
        if scheduler.job_rate_limiter.get_free_jobs() or time.monotonic() < due:
            return
        due = time.monotonic() + seconds
        timer = threading.Timer(seconds, scheduler._open_jobs.release)
        # Nobody waits for it at the end of a run, however long the timespan is.
        timer.daemon = True
        timer.start()

    # The name is spelt as Snakemake spells it.
    scheduler._schedule_reevalutation = start_timer
