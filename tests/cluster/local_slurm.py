"""A real Slurm on this machine: munge, slurmctld and a slurmd, without an accounting database.

The programs are those of Debian's `slurm-wlm`. GPUs are character devices that lead nowhere, enough
for Slurm to count them, to give them to jobs and to set `CUDA_VISIBLE_DEVICES`. There are fewer
processors than Slurm believes in, so that jobs which ask for several run on a small machine.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = (
    *("munged", "munge", "slurmctld", "slurmd", "setpriv"),
    *("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo"),
)
CONFIGURATION = Path("/etc/slurm")
"""Snakemake's job step drops `SLURM_CONF`, so that only the place by default is seen by all."""

WRITTEN_HERE = "# Written by tests/cluster, and removed at their end.\n"
SET_ASIDE = ".before-tests"

GPUS = 2
CPUS = 12
"""Processors that Slurm believes in."""

AWAY_SECONDS = 12
"""For how long a node that was lost is away. Jobs that are younger than `BatchStartTimeout` and
`MessageTimeout` (10 seconds) together are on their way still, Slurm believes, and looks much later.
"""

PATIENCE_SECONDS = 60
"""How long daemons and jobs may take to do what they were told."""

SLURM_CONF = """\
ClusterName=glossogenesis-tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
# Requeued jobs wait until their credentials have expired, by default two minutes.
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MpiDefault=none
BatchStartTimeout=1
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
# A job that takes more memory than it asked for is ended, as on a cluster that confines jobs.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
# Finished jobs can be asked for until the end.
MinJobAge=7200
# Jobs start as they come rather than every few seconds.
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
KillWait=2
ReturnToService=2
# More processors than there are.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} Default=NO MaxTime=INFINITE State=UP
"""


class SlurmError(RuntimeError):
    """Slurm is not there or does not do what it was told."""


@dataclass(frozen=True)
class SlurmJob:
    """What Slurm says of a job: `scontrol show job`."""

    fields: dict[str, str]

    @property
    def identity(self) -> str:
        """The id, that of a task of an array with its place in it: `7_2`."""
        if "ArrayTaskId" in self.fields:
            return f"{self.fields['ArrayJobId']}_{self.fields['ArrayTaskId']}"
        return self.fields["JobId"]

    @property
    def number(self) -> str:
        """The id that is a number also for a task of an array: `SLURM_JOB_ID`."""
        return self.fields["JobId"]

    @property
    def name(self) -> str:
        """Rule and wildcards, such as `extract_states tiny_first`; of a group, its name."""
        return self.fields["Comment"].removeprefix("rule_").replace("_wildcards_", " ")

    @property
    def rule(self) -> str:
        """The rule's name, or the group's."""
        return self.name.partition(" ")[0]

    @property
    def state(self) -> str:
        """Such as `RUNNING`."""
        return self.fields["JobState"]

    @property
    def restarts(self) -> int:
        """How often Slurm has put the job back into the queue."""
        return int(self.fields["Restarts"])

    @property
    def partition(self) -> str:
        """Where the job went."""
        return self.fields["Partition"]

    @property
    def gpus_asked_for(self) -> int:
        """GPUs that the job was submitted with, as in `gres:gpu:1`; without accounting, Slurm
        forgets after a job's end which ones it gave.
        """
        _, _, number = self.fields.get("TresPerJob", "0").rpartition(":")
        return int(number)

    @property
    def gpus(self) -> tuple[int, ...]:
        """The numbers of the GPUs that a running job was given, as in `gpu:2(IDX:0-1)`."""
        found = re.search(r"\(IDX:([\d,-]+)\)", self.fields.get("GRES", ""))
        ends = [part.split("-") for part in found[1].split(",")] if found else []
        return tuple(number for end in ends for number in range(int(end[0]), int(end[-1]) + 1))

    @property
    def cpus(self) -> int:
        """Processors that were given."""
        return int(self._given["cpu"])

    @property
    def memory_mb(self) -> float:
        """Memory that was given, in the megabytes (of 1024² bytes) that Slurm counts in."""
        amount, unit = re.fullmatch(r"([\d.]+)([MG])", self._given["mem"]).groups()
        return float(amount) * (1024 if unit == "G" else 1)

    @property
    def minutes(self) -> int:
        """Time that was given."""
        days, _, clock = self.fields["TimeLimit"].rpartition("-")
        hours, minutes, _ = clock.split(":")
        return int(days or 0) * 24 * 60 + int(hours) * 60 + int(minutes)

    @property
    def started(self) -> str:
        """When the job last began; such times sort as text."""
        return self.fields["StartTime"]

    @property
    def ended(self) -> str:
        """When the job ended."""
        return self.fields["EndTime"]

    @property
    def _given(self) -> dict[str, str]:
        """Amounts by name, as in `cpu=1,mem=2000M,node=1,billing=1`."""
        return dict(part.split("=") for part in self.fields["TRES"].split(","))


@dataclass
class LocalSlurm:
    """A Slurm that lives as long as the tests; see `running_slurm`."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    guard: subprocess.Popen[bytes] | None = None
    """Puts the machine's configuration back, also when the tests are killed."""

    @staticmethod
    def missing() -> str | None:
        """Return why no Slurm can be started here, None where one can."""
        if absent := [program for program in PROGRAMS if shutil.which(program) is None]:
            return f"{', '.join(absent)} not installed; apt-get install slurm-wlm munge"
        if os.geteuid() != 0:
            return "only root can start Slurm's daemons"
        return None

    def start(self) -> None:
        """Start the daemons and wait for the node."""
        if _answers("scontrol", "ping"):
            raise SlurmError("a Slurm is running on this machine; tests start their own")
        for name in ("state", "spool", "devices"):
            (self.folder / name).mkdir()
        for number in range(GPUS):
            # Null devices: there is something to give, and nothing that it does.
            os.mknod(self.folder / "devices" / f"gpu{number}", 0o600 | 0o020000, os.makedev(1, 3))
        self._write_configuration()
        self._start_munge()
        self._start_daemon("slurmctld", "-D")
        self._start_daemon("slurmd", "-D")
        wait_for("the node to be ready", self.is_ready, self.logs)

    def stop(self) -> None:
        """End all jobs and daemons and put the machine's own configuration back."""
        try:
            if "slurmctld" in self.daemons and _answers("scontrol", "ping"):
                self.cancel(*self.queue())
                wait_for("jobs to end", lambda: not self.queue(), self.logs)
        finally:
            for name in ("slurmd", "slurmctld", "munged"):
                self._stop_daemon(name)
            if self.guard is not None:
                # Never those of another Slurm, beside which this one did not start.
                _kill_steps()
                self.guard.communicate()

    def kill_slurmd(self) -> None:
        """Kill slurmd and, as where a node loses power, the steps that it started."""
        slurmd = self.daemons.pop("slurmd")
        slurmd.kill()
        slurmd.wait()
        _kill_steps()

    def start_slurmd(self) -> None:
        """Start slurmd again after `kill_slurmd`; the controller hears which jobs are lost."""
        time.sleep(AWAY_SECONDS)
        self._start_daemon("slurmd", "-D")
        wait_for("the node to be ready", self.is_ready, self.logs)

    def is_ready(self) -> bool:
        """Tell whether the node takes jobs; SlurmError where a daemon has ended by itself."""
        for name, daemon in self.daemons.items():
            if daemon.poll() is not None:
                raise SlurmError(f"{name} ended\n{self.logs()}")
        state = _output("sinfo", "--noheader", "--format=%T", check=False).split()
        return bool(state) and state[0] in ("idle", "mixed", "allocated")

    def queue(self) -> list[str]:
        """Return the ids of jobs that have not ended, as `squeue` gives them."""
        return _output("squeue", "--noheader", "--format=%i").split()

    def jobs(self) -> list[SlurmJob]:
        """Return all jobs of this Slurm, also those that have ended, oldest first."""
        return read_jobs(_output("scontrol", "--oneliner", "--details", "show", "jobs"))

    def job(self, identity: str) -> SlurmJob:
        """Return one job."""
        (job,) = read_jobs(_output("scontrol", "--oneliner", "--details", "show", "job", identity))
        return job

    def cancel(self, *identities: str) -> None:
        """Cancel jobs from outside, as their owner or an operator does."""
        if identities:
            _output("scancel", *identities)

    def requeue(self, identity: str) -> None:
        """Put a running job back into the queue, as a preempting scheduler does."""
        _output("scontrol", "requeue", identity)

    def logs(self) -> str:
        """Return the last lines of the daemons' logs."""
        texts = (path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))
        return "\n".join("\n".join(text.splitlines()[-20:]) for text in texts)

    def _write_configuration(self) -> None:
        CONFIGURATION.mkdir(exist_ok=True)
        _restore_configuration()
        self.guard = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, start_new_session=True
        )
        host = socket.gethostname().partition(".")[0]
        controller_port, node_port = _free_ports(2)
        files = {
            "slurm.conf": SLURM_CONF.format(
                host=host,
                controller_port=controller_port,
                node_port=node_port,
                folder=self.folder,
                cpus=CPUS,
                memory_mb=machine_memory_mb(),
                gpus=GPUS,
            ),
            "gres.conf": f"NodeName={host} Name=gpu File={self.folder}/devices/gpu[0-{GPUS - 1}]\n",
        }
        for name, text in files.items():
            path = CONFIGURATION / name
            if path.exists():
                path.rename(path.with_name(name + SET_ASIDE))
            path.write_text(WRITTEN_HERE + text, encoding="utf-8")

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        # Its own key and socket: a munge of the machine's is left alone.
        files = {
            "--key-file": key,
            "--socket": self.folder / "munge.socket",
            "--pid-file": self.folder / "munged.pid",
            "--log-file": self.folder / "munged.log",
            "--seed-file": self.folder / "munged.seed",
        }
        self._start_daemon(
            "munged", "--foreground", *(f"{name}={path}" for name, path in files.items())
        )
        socket_path = str(self.folder / "munge.socket")
        wait_for("munge", lambda: _answers("munge", "-n", "-S", socket_path), self.logs)

    def _start_daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            # The kernel ends daemons when the tests are killed; Ctrl-C is for the tests alone.
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", name, *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _stop_daemon(self, name: str) -> None:
        daemon = self.daemons.pop(name, None)
        if daemon is None:
            return
        daemon.terminate()
        try:
            daemon.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


@contextlib.contextmanager
def running_slurm() -> Iterator[LocalSlurm]:
    """Start a Slurm and stop it, whatever happens between."""
    # Sockets have short paths, and munge trusts only folders that others can enter but not write.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        slurm = LocalSlurm(folder)
        try:
            slurm.start()
            yield slurm
        finally:
            slurm.stop()


def read_jobs(listing: str) -> list[SlurmJob]:
    """Return the jobs in what `scontrol --oneliner show jobs` printed."""
    lines = [line for line in listing.splitlines() if line.startswith("JobId=")]
    jobs = [SlurmJob(dict(re.findall(r"([\w/:]+)=(\S*)", line))) for line in lines]
    return sorted(jobs, key=lambda job: int(job.number))


def wait_for(
    what: str,
    is_so: Callable[[], bool],
    explained: Callable[[], str] = str,
    seconds: float = PATIENCE_SECONDS,
) -> None:
    """Wait until something is so; SlurmError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise SlurmError(f"waited {seconds:g} seconds for {what}\n{explained()}")
        time.sleep(0.1)


def machine_memory_mb() -> int:
    """Return the memory of this machine in megabytes of 1024² bytes."""
    match = re.search(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(match[1]) // 1024


def _kill_steps() -> None:
    """Kill the processes that run jobs' steps, and all that these have started."""
    children: dict[int, list[int]] = {}
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # pid (name) state parent ...; a name may hold spaces.
            before, _, after = path.read_text().rpartition(")")
            process, name = before.split(" (", 1)
            children.setdefault(int(after.split()[1]), []).append(int(process))
            if name == "slurmstepd":
                found.append(int(process))
    for process in found:
        # The list grows while it is read: children of children.
        found.extend(child for child in children.get(process, []) if child not in found)
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        found = [sockets.enter_context(socket.socket()) for _ in range(number)]
        for opened in found:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in found]


def _restore_configuration() -> None:
    for name in ("slurm.conf", "gres.conf"):
        path = CONFIGURATION / name
        if path.exists() and path.read_text(encoding="utf-8").startswith(WRITTEN_HERE):
            path.unlink()
        aside = path.with_name(name + SET_ASIDE)
        if aside.exists():
            aside.rename(path)


def _answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _output(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SlurmError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


if __name__ == "__main__":
    # The guard: its input ends when the tests do, however they end.
    sys.stdin.read()
    _restore_configuration()
