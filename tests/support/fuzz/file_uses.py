"""What the workflow does with a file of a user's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

from rich.console import Console

from glossogenesis.corpora.demo.posts import read_world
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.inspection import page
from glossogenesis.inspection.page import inspect_path, lay_out
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.robustness.posts import read_post_file
from glossogenesis.sae.files import check_origin, read_own_facts, read_sae
from glossogenesis.storage.activations.cache import ActivationCache, purge_shards
from glossogenesis.study.loading import load_study
from glossogenesis.study.robustness import PostFiles
from glossogenesis.study.study import Study
from glossogenesis.workflow import plan as planning
from glossogenesis.workflow import preflight
from glossogenesis.workflow.disk import bytes_of_shards, caches_of
from glossogenesis.workflow.plan import Job
from glossogenesis.workflow.registry import STAGES

LANGUAGES = ("en", "es", "fi", "ru")


def plan(file: Path) -> None:
    """Take a study as far as the page of its plan, and to its first job; but for Snakemake."""
    study = load_study(file)
    preflight.check(study)
    results = planning.results_folder(study)
    preflight.absent(study, results)
    planned = planning.plan_jobs(study, list(jobs_of(study)))
    Console(file=StringIO()).print(
        page.plan_page(study.name, planned, planning.assumptions(study), [])
    )
    for cache in caches_of(study, results):
        bytes_of_shards(cache.manifest)
    preflight.check_files(study, results)


def jobs_of(study: Study) -> list[Job]:
    """One pending job of every setup of every stage."""
    return [
        Job(stage, setup, is_pending=True)
        for stage in STAGES.values()
        for setup in stage.jobs_in(study)
    ]


def plan_beside(file: Path) -> None:
    """Plan the study that a file belongs to."""
    plan(file.with_name("study.yaml"))


def show(path: Path) -> None:
    """Print what `glossogenesis inspect` prints of a file, and of the folder around it."""
    for shown in (path.parent, path):
        terminal = TextIOWrapper(BytesIO(), encoding="utf-8")
        Console(file=terminal, width=120).print(lay_out(inspect_path(shown), 120))


def read_and_show(*readers: Callable[[Path], object]) -> Callable[[Path], None]:
    """Read a file by each reader, then show it; what is refused by one may be shown."""

    def use(path: Path) -> None:
        refused = []
        for reader in (*readers, show):
            try:
                reader(path)
            except StudyError as error:
                refused.append(error)
        if refused:
            raise refused[0]

    return use


def purge(path: Path) -> None:
    """Purge a cache, after it is looked at; then put its shards back."""
    cache = ActivationCache.open(path)
    for split in cache.splits:
        for rows in cache.shards(split):
            assert rows.activations.shape[1] == cache.d_model
    bytes_of_shards(path)
    kept = path.parent.with_name("kept")
    if not kept.exists():
        shutil.copytree(path.parent, kept)
    purge_shards(path)
    shutil.copytree(kept, path.parent, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.json"))


def tokenise(path: Path) -> None:
    load_tokenizer(CheckpointLocation(str(path.parent)))


def load(path: Path) -> None:
    load_model(CheckpointLocation(str(path.parent)), device="cpu")


def read_corpus(path: Path) -> None:
    corpus = TokenisedCorpus.read(path)
    for split in corpus.splits:
        for block in corpus.blocks(split, 2):
            assert block.token_ids.shape[1] == corpus.context
    corpus.vocabulary()


def read_world_of(path: Path) -> None:
    read_world(path.with_name("communities.tsv"), path.with_name("spellings.tsv"))


def read_autoencoder(path: Path) -> None:
    read_sae(path.parent)
    read_own_facts(path.parent)
    check_origin(path.parent, "tiny", "last", 0)


def lexicon(format: str) -> Callable[[Path], object]:
    languages = LANGUAGES if format == "tsv" else LANGUAGES[:2]
    return lambda path: read_lexicon(path, format=format, languages=languages, pos=["noun", "N"])


def posts(path: Path) -> None:
    read_post_file(path, PostFiles(kind="files", files=(path.name,)))
