"""What a stage of the workflow is: its rule, its program, what it writes, costs and computes with.

Rules, plans, checks before a run, purges and pages read the stages that `registry` lists. Functions
of a stage take the study, and then wildcards of its rule by their names.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import PurePosixPath
from typing import Any, Literal

from glossogenesis.study.study import Study
from glossogenesis.workflow.costs import Cost

Settings = dict[str, Any]
Setup = Mapping[str, str]
"""Wildcards by their names, of one output of a stage."""
Part = Literal["checkpoints", "concepts", "features", "robustness"]


@dataclass(frozen=True)
class Artifact:
    """Files of one kind that a stage writes."""

    path: str
    """With wildcards in braces; in a declaration below the folder of its stage."""
    words: str
    """What it is; `inspect` and results/README.md say so."""
    kind: str = ""
    """The `kind` in its provenance, empty where it has none; in a declaration where it is not that
    of its stage."""
    where: Callable[[Study], bool] | None = None
    """Whether a study has it; None is every study that has the stage."""
    copies: tuple[str, ...] = ()
    """Endings of files of the same name with the same content, or with what is drawn."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        stem, dot, ending = re.escape(self.path).replace(r"\*", "[^/]*").rpartition(r"\.")
        endings = "|".join([ending, *(re.escape(copy[1:]) for copy in self.copies)])
        # A figure of one model is named with its folder.
        stem = stem.replace(r"\{figure\}", "(?P<figure>.+)")
        stem = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", stem)
        return re.compile(f"{stem}{dot}(?:{endings})")

    def setup_of(self, path: str) -> dict[str, str] | None:
        """Return the wildcards of a path below the results, None where it is of another kind."""
        found = self._pattern.fullmatch(path)
        return None if found is None else found.groupdict()


@dataclass(frozen=True)
class Stage:
    """One rule of the workflow, or the numbered rules that differ in their layers alone."""

    name: str
    """Of the rule."""
    kind: str
    """The `kind` in what it writes; `{stem}` is the name of the file without its ending."""
    folder: str
    """Of its outputs, below the results."""
    setups: Callable[[Study], Iterable[Setup]]
    """The wildcards of all outputs, in a study that has the part."""
    files: Mapping[str, Artifact]
    """What the rule lists, by the names of its outputs; the first stands for all."""
    settings: Callable[..., Settings] | None
    """What changes the results, of the study; None where nothing does."""
    cost: Callable[..., Cost]
    """What a job takes; `layers`, where it is a parameter, is the number of layers of a job."""
    others: tuple[Artifact, ...] = ()
    """What is written beside the outputs and is in no rule; the first output stands for it."""
    copies: tuple[str, ...] = ()
    """Endings of files that are beside each output, with its name."""
    program: str | Callable[[Study], str] | None = None
    """None where it has the rule's name."""
    gpu: bool = False
    """Whether it runs on a GPU where the model's section asks for one, and with its threads."""
    threads: Literal["one", "several"] | Callable[..., int] = "one"
    """`several` is up to 8; a function is given `several` and says how many of them. Without a
    meaning where it runs on a GPU, but for a function."""
    hub: bool = False
    """Whether it may reach the Hub."""
    in_blocks: bool = False
    """Whether a job does `layers_per_job` layers; otherwise it does all."""
    reads_cache: str | None = None
    """The stage whose activations it reads, after which they may be purged."""
    weights: Callable[[Study, Setup], Iterable[tuple[str, str]]] | None = None
    """The models and checkpoints whose weights the job of a setup reads; None is none."""
    part: Part = "checkpoints"

    @cached_property
    def outputs(self) -> dict[str, Artifact]:
        """What the rule lists, by the names of its outputs."""
        return {name: self._in_folder(artifact) for name, artifact in self.files.items()}

    @cached_property
    def beside(self) -> list[Artifact]:
        """What is written beside the outputs and is in no rule."""
        return [self._in_folder(artifact) for artifact in self.others]

    def _in_folder(self, artifact: Artifact) -> Artifact:
        path = f"{self.folder}/{artifact.path}"
        kind = artifact.kind or self.kind.format(stem=PurePosixPath(path).stem)
        return replace(artifact, path=path, kind=kind, copies=self.copies)

    def program_of(self, study: Study) -> str:
        """Return the name of the program that a study runs."""
        return self.program(study) if callable(self.program) else self.program or self.name

    def jobs_in(self, study: Study) -> Iterable[Setup]:
        """Return the setups of a study, none where it does not have the part."""
        return self.setups(study) if has_part(study, self.part) else ()

    def artifacts_in(self, study: Study) -> dict[str, Artifact]:
        """Return the outputs that a study asks for, by their names in the rule."""
        if not has_part(study, self.part):
            return {}
        return {
            name: output
            for name, output in self.outputs.items()
            if output.where is None or output.where(study)
        }

    def paths(self, study: Study, output: str | None = None) -> Iterator[str]:
        """Yield the path of an output, by default of the first, for each setup of a study."""
        path = self.path(output)
        for setup in self.jobs_in(study):
            yield path.format_map(setup)

    def path(self, output: str | None = None) -> str:
        """Return the path of an output, by default of the first, with its wildcards."""
        return self.outputs[output or next(iter(self.outputs))].path

    def setup_of(self, path: str) -> dict[str, str] | None:
        """Return the wildcards of a path below the results, None where no job writes it."""
        found = (output.setup_of(path) for output in self.outputs.values())
        return next((setup for setup in found if setup is not None), None)

    def job_path(self, first_layer: int | None = None) -> str:
        """Return what tells a job's log from that of others: the parts with wildcards of its path.

        A layer is not among them, but for the first of a block.
        """
        names = []
        for part in PurePosixPath(self.path()).with_suffix("").parts:
            if part == "layer_{layer}":
                names += [f"from_layer_{first_layer}"] if self.in_blocks else []
            elif "{" in part and part != "{figure}":
                names.append(part)
        return "/".join([self.name, *names])


def has_part(study: Study, part: Part) -> bool:
    """Tell whether a part of a study runs; checkpoints are of every study."""
    return part == "checkpoints" or bool(getattr(study, f"has_{part}"))


@cache
def names_taken(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return what a function of a stage takes after the study, by name."""
    return tuple(inspect.signature(function).parameters)[1:]


def cost_of(stage: Stage, study: Study, setup: Setup, layers: int = 1) -> Cost:
    """Return what one job of a stage takes."""
    given = {**setup, "layers": layers}
    return stage.cost(study, *(given[name] for name in names_taken(stage.cost)))
