"""A study edited while it runs: jobs that start after the edit compute what the run began with.

Executors of a cluster start every job as a Snakemake of its own that loads the study again. Here
one such job is started by hand, as they start it.
"""

from pathlib import Path

from support.working_tree import WorkingTree

ARTIFACT = Path("results/concepts/tiny/last/patching.parquet")
JOB = "patch_translations:model=tiny,checkpoint=last"


def spawn(tree: WorkingTree, configfile: Path, status: int = 0) -> str:
    """Run one job as the executors of a cluster do."""
    options = (
        f"--snakefile Snakefile --configfiles {configfile} --mode remote"
        f" --target-jobs {JOB} --allowed-rules patch_translations --cores 1 --executor local"
        " --force --nolock --no-hooks --ignore-incomplete --retries 0 --max-inventory-time 0"
    )
    return tree.run("snakemake", *options.split(), status=status)


def frozen_copies(tree: WorkingTree) -> list[Path]:
    return sorted((tree.root / "results" / "runs").glob("*/study.yaml"))


def test_a_job_computes_what_its_run_began_with(tree: WorkingTree):
    artifact = tree.root / ARTIFACT
    before = artifact.read_bytes()
    (copy,) = frozen_copies(tree)
    artifact.unlink()
    tree.edit("small.yaml", "items: 6", "items: 5")
    tree.edit("small.tsv", "tiny\tlast\t8\t2048\t2", "tiny\tlast\t6\t1536\t2")
    spawn(tree, copy)
    assert artifact.read_bytes() == before


def test_a_job_computes_also_while_the_study_cannot_be_read(tree: WorkingTree):
    artifact = tree.root / ARTIFACT
    before = artifact.read_bytes()
    (copy,) = frozen_copies(tree)
    artifact.unlink()
    (tree.root / "small.yaml").write_text("study: [half", encoding="utf-8")
    (tree.root / "small.tsv").unlink()
    spawn(tree, copy)
    assert artifact.read_bytes() == before


def test_a_job_without_the_copy_is_refused(tree: WorkingTree):
    (tree.root / ARTIFACT).unlink()
    printed = spawn(tree, Path("small.yaml"), status=1)
    assert "without the frozen copy of its study" in printed
    assert not (tree.root / ARTIFACT).exists()


def test_a_changed_study_is_a_new_run_and_a_dry_run_is_none(tree: WorkingTree):
    tree.edit("small.yaml", "items: 6", "items: 5")
    tree.snakemake("--dry-run")
    assert len(frozen_copies(tree)) == 1
    tree.snakemake("--cores", "2", "results/prompts/tiny/translation.parquet")
    assert len(frozen_copies(tree)) == 2


def test_a_run_that_was_killed_starts_again_without_unlock(tree: WorkingTree):
    locks = tree.root / ".snakemake" / "locks"
    locks.mkdir(exist_ok=True)
    target = "results/prompts/tiny/translation.parquet"
    for kind, file in (("input", "small.tsv"), ("output", target)):
        (locks / f"0.{kind}.lock").write_text(f"{file}\n", encoding="utf-8")
    (tree.root / target).unlink()
    tree.snakemake("--cores", "2", target)
    assert (tree.root / target).exists()
