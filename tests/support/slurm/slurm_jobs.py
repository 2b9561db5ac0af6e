"""Jobs as Slurm describes them."""

import re
from dataclasses import dataclass


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


def read_jobs(listing: str) -> list[SlurmJob]:
    """Return the jobs in what `scontrol --oneliner show jobs` printed."""
    lines = [line for line in listing.splitlines() if line.startswith("JobId=")]
    jobs = [SlurmJob(dict(re.findall(r"([\w/:]+)=(\S*)", line))) for line in lines]
    return sorted(jobs, key=lambda job: int(job.number))
