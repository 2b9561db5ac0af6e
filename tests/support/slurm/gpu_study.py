"""A small study whose models ask for GPUs."""

import hashlib
import shutil
from pathlib import Path

from support.working_tree import SMALL_STUDY, WorkingTree, copy_of_repository

STUDY = "gpus.yaml"

SHEET = """\
model\tcheckpoint\tstep\ttokens\tphase\tsource\trevision\tsubfolder
tiny\tfirst\t0\t0\t1\tpretrain:tiny\t\t
tiny\tlast\t8\t2048\t2\tpretrain:tiny\t\t
twin\tlast\t8\t2048\t2\tpretrain:tiny\t\t
"""

CHECKPOINTS = ("first", "last")
"""Of `tiny`."""

MODELS = """\
  tiny: {batch_size: 64, gpus: 1, threads: 1}
  twin: {batch_size: 64, gpus: 2, threads: 2}
"""
"""`twin` is `tiny` again, but asks for two GPUs and two threads."""

ABOUT_A_RUN = ("runs", "resume", "driver.lock")
"""Files among the results that say how a run went and not what came out."""


def new_tree(root: Path) -> WorkingTree:
    """Return a copy of the repository with the study in it."""
    copy_of_repository(root)
    small = "  tiny: {batch_size: 64, gpus: 0, threads: 1}\n"
    assert small in SMALL_STUDY
    study = SMALL_STUDY.replace(small, MODELS).replace("small.tsv", "gpus.tsv")
    (root / STUDY).write_text(study, encoding="utf-8")
    (root / "gpus.tsv").write_text(SHEET, encoding="utf-8")
    return WorkingTree(root, STUDY)


def copy_without(finished: WorkingTree, root: Path, *models: str) -> WorkingTree:
    """Return a copy of the finished study in which the concepts of models are still to be made.

    And so are the tables: what lacks only inputs counts as finished.
    """
    shutil.copytree(finished.root, root)
    shutil.rmtree(root / "results" / "tables")
    for model in models:
        shutil.rmtree(root / "results" / "concepts" / model)
    return WorkingTree(root, STUDY)


def results_of(tree: WorkingTree) -> dict[str, str]:
    """Return the digests of all files among the results, by path."""
    results = tree.root / "results"
    paths = (path.relative_to(results) for path in sorted(results.rglob("*")) if path.is_file())
    return {
        str(path): hashlib.sha256((results / path).read_bytes()).hexdigest()
        for path in paths
        if path.parts[0] not in ABOUT_A_RUN
    }
