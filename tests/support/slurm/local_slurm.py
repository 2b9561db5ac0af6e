"""A real Slurm on this machine: munge, slurmctld and a slurmd, without an accounting database.

The programs are those of Debian's `slurm-wlm`. GPUs are character devices that lead nowhere, enough
for Slurm to count them, to give them to jobs and to set `CUDA_VISIBLE_DEVICES`. There are fewer
processors than Slurm believes in, so that jobs which ask for several run on a small machine.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from support.slurm.private_folder import PrivateFolder
from support.slurm.slurm_jobs import SlurmJob, read_jobs

PROGRAMS = (
    *("munged", "munge", "slurmctld", "slurmd", "setpriv", "unshare", "nsenter"),
    *("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo"),
)
SHOW = ("scontrol", "--oneliner", "--details", "show")
CONFIGURATION = Path("/etc/slurm")
"""Snakemake's job step drops `SLURM_CONF`, so that only the place by default is seen by all."""

GPUS = 2
CPUS = 12
"""Processors that Slurm believes in."""

AWAY_SECONDS = 12
"""For how long a node that was lost is away. Jobs that are younger than `BatchStartTimeout` and
`MessageTimeout` (10 seconds) together are on their way still, Slurm believes, and looks much later.
"""

TAKES_JOBS = ("idle", "mixed", "allocated", "completing")
"""States of a node, as `sinfo` calls them; one that does not answer has an asterisk."""

PATIENCE_SECONDS = 60
"""How long daemons and jobs may take to do what they were asked to."""

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
    """Slurm is not there or does not do what it was asked to."""


@dataclass
class LocalSlurm:
    """A Slurm that lives as long as the tests; see `running_slurm`."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    machine: PrivateFolder | None = None
    """Where `CONFIGURATION` is that of these tests: a Slurm of the machine's is left alone."""

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
        for name in ("configuration", "state", "spool", "devices"):
            (self.folder / name).mkdir()
        for number in range(GPUS):
            # Null devices: there is something to give, and nothing that it does.
            os.mknod(self.folder / "devices" / f"gpu{number}", 0o600 | 0o020000, os.makedev(1, 3))
        self._write_configuration(self.folder / "configuration")
        self.machine = PrivateFolder.at(CONFIGURATION, self.folder / "configuration")
        self._start_munge()
        self._start_daemon("slurmctld", "-D")
        self._start_daemon("slurmd", "-D")
        wait_for("the node to be ready", self.is_ready, self.logs)

    def stop(self) -> None:
        """End all jobs and daemons."""
        try:
            if "slurmctld" in self.daemons and self._run("scontrol", "ping").returncode == 0:
                self.cancel(*self.queue())
                wait_for("jobs to end", lambda: not self.queue(), self.logs)
        finally:
            for name in ("slurmd", "slurmctld", "munged"):
                self._stop_daemon(name)
            if self.machine is not None:
                self._kill_steps()
                self.machine.end()

    def kill_slurmd(self) -> None:
        """Kill slurmd and, as where a node loses power, the steps that it started."""
        slurmd = self.daemons.pop("slurmd")
        slurmd.kill()
        slurmd.wait()
        self._kill_steps()

    def start_slurmd(self) -> None:
        """Start slurmd again after `kill_slurmd`; the controller hears which jobs are lost."""
        time.sleep(AWAY_SECONDS)
        self._start_daemon("slurmd", "-D")
        wait_for("the node to be ready", self.is_ready, self.logs)

    def is_ready(self) -> bool:
        """Return whether the node takes jobs; SlurmError where a daemon has ended by itself."""
        for name, daemon in self.daemons.items():
            if daemon.poll() is not None:
                raise SlurmError(f"{name} ended\n{self.logs()}")
        state = self._run("sinfo", "--noheader", "--format=%T").stdout.split()
        return bool(state) and state[0] in TAKES_JOBS

    def queue(self) -> list[str]:
        """Return the ids of jobs that have not ended, as `squeue` gives them."""
        return self._output("squeue", "--noheader", "--format=%i").split()

    def jobs(self) -> list[SlurmJob]:
        """Return all jobs of this Slurm, also those that have ended, oldest first."""
        return read_jobs(self._output(*SHOW, "jobs"))

    def job(self, identity: str) -> SlurmJob:
        """Return one job."""
        (job,) = read_jobs(self._output(*SHOW, "job", identity))
        return job

    def cancel(self, *identities: str) -> None:
        """Cancel jobs from outside, as their owner or an operator does."""
        if identities:
            self._output("scancel", *identities)

    def requeue(self, identity: str) -> None:
        """Put a running job back into the queue, as a preempting scheduler does."""
        self._output("scontrol", "requeue", identity)

    def command(self, *words: str, folder: Path | str = ".") -> list[str]:
        """Return the words of a command that runs in a folder and talks to this Slurm."""
        assert self.machine is not None, "started before"
        return self.machine.command(*words, folder=folder)

    def logs(self) -> str:
        """Return the last lines of the daemons' logs."""
        texts = (path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))
        return "\n".join("\n".join(text.splitlines()[-20:]) for text in texts)

    def _write_configuration(self, configuration: Path) -> None:
        host = socket.gethostname().partition(".")[0]
        controller_port, node_port = _free_ports(2)
        slurm = SLURM_CONF.format(
            host=host,
            controller_port=controller_port,
            node_port=node_port,
            folder=self.folder,
            cpus=CPUS,
            memory_mb=psutil.virtual_memory().total // 1024**2,
            gpus=GPUS,
        )
        devices = f"{self.folder}/devices/gpu[0-{GPUS - 1}]"
        (configuration / "slurm.conf").write_text(slurm, encoding="utf-8")
        (configuration / "gres.conf").write_text(f"NodeName={host} Name=gpu File={devices}\n")

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
        answer = ("munge", "-n", "-S", socket_path)
        wait_for("munge", lambda: self._run(*answer).returncode == 0, self.logs)

    def _start_daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            # The kernel ends daemons when the tests are killed; Ctrl-C is for the tests alone.
            self.daemons[name] = subprocess.Popen(
                self.command("setpriv", "--pdeathsig", "TERM", name, *arguments),
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

    def _kill_steps(self) -> None:
        """Kill the processes that run jobs' steps, and all that these have started.

        Those that would report a step's end to the controller go first: no power, no report.
        """
        steps = [
            process
            for process in psutil.process_iter(["name"])
            if process.info["name"] == "slurmstepd" and self.machine.holds(process.pid)
        ]
        started = [child for step in steps for child in children_of(step)]
        for process in (*steps, *started):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*command), capture_output=True, text=True, check=False)

    def _output(self, *command: str) -> str:
        done = self._run(*command)
        if done.returncode != 0:
            raise SlurmError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """Return what a process has started, and what that has; none where it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


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


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        found = [sockets.enter_context(socket.socket()) for _ in range(number)]
        for opened in found:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in found]
