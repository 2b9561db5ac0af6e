"""
Lets Snakemake look up the rule of a job once, not once for each of its files.

For each input of each job, Snakemake 9 compares the path with all outputs of all rules that begin alike,
so that layers x setups are what planning takes its time with; docs/scale.md describes it.
"""

import snakemake.workflow
from snakemake.dag import DAG


class DagOfKnownFiles(DAG):
    """Answers from the jobs it has which of them makes a file.

    A file that none makes yet is looked up as ever: two rules that both make a job's first file are refused.
    """

    def cache_job(self, job):
        super().cache_job(job)
        self.job_cache.update(dict.fromkeys(job.products(), job))

    async def file2jobs(self, targetfile, wildcards_dict=None):
        if targetfile in self.job_cache:
            return [self.job_cache[targetfile]]
        return await super().file2jobs(targetfile, wildcards_dict)


snakemake.workflow.DAG = DagOfKnownFiles
