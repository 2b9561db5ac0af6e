"""The command `glossogenesis`: look into artifacts and check them, plan a study, free its disk."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from glossogenesis import __version__
from glossogenesis.exceptions import StudyError

WIDTH_OF_FILES = 120
"""Columns of output that goes to a file or a pipe."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look into artifacts and check them, plan a study before it starts, and free the disk "
    "that its activations take. Studies run with `snakemake`.",
)


def main() -> None:
    """Run the command line."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"glossogenesis {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="An artifact, a sheet, a checkpoint or a folder.")],
    rows: Annotated[int, typer.Option(min=0, help="Rows of a table to show.")] = 5,
) -> None:
    """Print what a file or folder is: kind, provenance, schema and first rows."""
    from glossogenesis.inspection.page import inspect_path, lay_out

    with _errors_in_one_line():
        console = _console()
        console.print(lay_out(inspect_path(path, rows), console.width))


@app.command()
def plan(
    configfile: Annotated[Path, typer.Option(help="The study file.")] = Path("config.yaml"),
) -> None:
    """Print the jobs, hours and disk that a study will take; what is finished does not count."""
    from glossogenesis.inspection.page import plan_page
    from glossogenesis.study.loading import load_study
    from glossogenesis.workflow import plan as planning
    from glossogenesis.workflow import preflight
    from glossogenesis.workflow.preflight import suspicious

    with _errors_in_one_line():
        study = load_study(configfile)
        preflight.check(study)
        results = planning.results_folder(study)
        notes = suspicious(study, results)
        planned = planning.plan_jobs(study, planning.jobs_of(study))
        is_kept = study.settings.hub.keep_downloads
        downloads = planning.download_folder(study) if is_kept else None
        warnings = planning.disk_warnings(planned, results, downloads)
        if missing := preflight.absent(study, results):
            warnings.insert(0, missing)
        if not Path("Snakefile").is_file() and (elsewhere := planning.not_here(study, results)):
            warnings.append(elsewhere)
        warnings += notes
        _console().print(plan_page(study.name, planned, planning.assumptions(study), warnings))


@app.command()
def purge(
    configfile: Annotated[Path, typer.Option(help="The study file.")] = Path("config.yaml"),
    dry_run: Annotated[bool, typer.Option(help="Say what would be deleted.")] = False,
    unused: Annotated[
        bool, typer.Option(help="Also delete shards that unfinished jobs still need.")
    ] = False,
) -> None:
    """Delete the activations that were used; manifests stay, and so does a finished study."""
    from glossogenesis.inspection.content import size_in_words
    from glossogenesis.storage.activations.cache import purge_shards
    from glossogenesis.study.loading import load_study
    from glossogenesis.workflow.disk import bytes_of_shards, caches_of
    from glossogenesis.workflow.plan import not_here, results_folder

    with _errors_in_one_line():
        study = load_study(configfile)
        freed = kept = 0
        results = results_folder(study)
        caches = list(caches_of(study, results))
        if not caches and (elsewhere := not_here(study, results)):
            raise StudyError(elsewhere)
        for cache in caches:
            if cache.unfinished and not unused:
                kept += 1
                continue
            freed += (bytes_of_shards if dry_run else purge_shards)(cache.manifest)
        verb = "would free" if dry_run else "freed"
        typer.echo(f"{verb} {size_in_words(freed)} of activations")
        if kept:
            typer.echo(
                f"kept the shards of {kept} layers, which unfinished jobs need; "
                "run the workflow first, or pass --unused"
            )


@app.command()
def verify(
    results: Annotated[Path, typer.Argument(help="The folder of results.")] = Path("results"),
) -> None:
    """Compare all artifacts with their recorded digests; say how to make damaged ones again."""
    from glossogenesis.workflow import verification

    with _errors_in_one_line():
        found = verification.verify(results)
        if not found.checked and not found.damages:
            raise StudyError(
                f"{results}: holds no artifact to compare; give the folder of a study's results"
            )
    typer.echo(f"{found.checked} files are vouched for, {len(found.damages)} of them are damaged")
    for damage in found.damages:
        typer.echo(f"damaged: {damage.path}: {damage.reason}", err=True)
    if found.unknown:
        typer.echo(f"nothing vouches for {len(found.unknown)} files, such as {found.unknown[0]}")
    if found.damages:
        targets = sorted({str(damage.target) for damage in found.damages})
        files = sorted({*targets, *(str(damage.path) for damage in found.damages)})
        delete, make = shlex.join(["rm", "-f", *files]), shlex.join(targets)
        typer.echo("Delete them, and make them again with the options of your study:", err=True)
        typer.echo(f"    {delete}\n    snakemake --cores all {make}", err=True)
        raise typer.Exit(1)


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Print a `StudyError` as one line and exit with status 1."""
    try:
        yield
    except StudyError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    main()
