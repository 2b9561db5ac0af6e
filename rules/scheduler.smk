"""
Lets Snakemake's own process sleep while jobs run.

REQUIRED INPUTS:
    the scheduler, which Snakemake makes before it starts the first job

Snakemake 9 starts a timer in every round of its scheduler, which starts the next round a second later,
which starts a timer, and each finished job begins another such chain. And jobs that end together start
a round each, of which the first does the work of all. docs/scale.md describes both.
"""

import threading
import time


class RoundDue(threading.Event):
    """Takes the place of a semaphore that counts: a round is due or is not."""

    release = threading.Event.set

    def acquire(self):
        self.wait()
        self.clear()


def drop_idle_rounds(scheduler):
    """Have timers start rounds only while --max-jobs-per-timespan holds jobs back, one at a time.

    Everything else that makes a job ready, or frees what it needs, starts a round by itself.
    """
    round_due = RoundDue()
    next_timer = 0.0

    def start_timer(seconds):
        nonlocal next_timer
        if scheduler.job_rate_limiter.get_free_jobs() or time.monotonic() < next_timer:
            return
        next_timer = time.monotonic() + seconds
        timer = threading.Timer(seconds, round_due.release)
        # Nobody waits for it at the end of a run, however long the timespan is.
        timer.daemon = True
        timer.start()

    round_due.release()
    scheduler._open_jobs = round_due
    # The name is spelt as Snakemake spells it.
    scheduler._schedule_reevalutation = start_timer
