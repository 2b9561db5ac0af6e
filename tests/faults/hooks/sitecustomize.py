"""Kills a program of the workflow, its driver, or both, at a planned moment.

Python runs this file at its start where its folder is on PYTHONPATH. `FAULT_PLANS` names a folder
of plans, JSON files of `moments.Kill`; each is carried out once, by the first process it fits, and
is then renamed to `.done`. Moments are counted in events of the process itself, so that a plan
means the same on every machine.
"""

import atexit
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

PLANS = os.environ.get("FAULT_PLANS")
DRIVER = "FAULT_DRIVER"
"""File that holds the process id of the driver, which leads its process group."""


def own_program():
    """Name of the program that this process runs: a script, or `snakemake`."""
    for argument in sys.orig_argv[1:]:
        if argument.endswith(".py"):
            return Path(argument).stem
        if argument == "snakemake":
            return argument
    return None


class Executioner:
    """Counts events until the moment of a plan has come."""

    def __init__(self, path, plan):
        self.path = path
        self.plan = plan
        self.count = 0
        self.busy = False

    def watch(self, event, arguments):
        """Count an audit event; see `sys.addaudithook`."""
        if self.busy or event != self.plan["event"]:
            return
        if not any(self.plan["path"] in str(argument) for argument in arguments[:2]):
            return
        if event == "open" and not writes(arguments):
            return
        self.count += 1
        if self.count == self.plan["count"]:
            self.fire()

    def fire(self):
        """Carry out the plan, unless another process has done so."""
        self.busy = True
        try:
            self.path.rename(self.path.with_suffix(".done"))
        except FileNotFoundError:
            return
        if self.plan["delay"]:
            threading.Timer(self.plan["delay"], self.kill).start()
        else:
            self.kill()

    def kill(self):
        """Send SIGKILL to whom the plan names."""
        victim = self.plan["victim"]
        if victim == "step":
            os.kill(os.getpid(), signal.SIGKILL)
        driver = int(Path(os.environ[DRIVER]).read_text())
        if victim == "group":
            os.killpg(driver, signal.SIGKILL)
        os.kill(driver, signal.SIGKILL)
        # An orphan that lives on while the next driver is at work.
        time.sleep(self.plan["linger"])


def writes(arguments):
    """Return whether an `open` event is for writing."""
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR))


def main():
    """Watch this process on behalf of the first plan that fits it."""
    program = own_program()
    for path in sorted(Path(PLANS).glob("*.json")):
        plan = json.loads(path.read_text())
        fits = any(plan["argument"] in argument for argument in sys.orig_argv)
        if plan["program"] == program and fits:
            executioner = Executioner(path, plan)
            if plan["event"] == "start":
                executioner.fire()
            elif plan["event"] == "exit":
                atexit.register(executioner.fire)
            else:
                sys.addaudithook(executioner.watch)
            return


if PLANS:
    main()
