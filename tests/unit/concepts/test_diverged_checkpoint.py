"""A checkpoint whose numbers are not finite costs itself: the others are tabulated, it is named."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM

import extract_states
import patch_translations
import tabulate_concepts
import write_prompts
from glossogenesis.concepts.request import check_identities
from glossogenesis.concepts.states import check_finite_states
from glossogenesis.concepts.translation import run_patching
from glossogenesis.exceptions import NotFiniteError, StudyError
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.manifest import describe_checkpoint
from glossogenesis.storage.tables import read_provenance, read_table
from glossogenesis.workflow import jobs_concepts
from support.patch_requests import request_for
from support.program_runs import ON_CPU, run_main
from support.tiny_checkpoint import save_tiny_checkpoint
from support.tiny_models import tiny_anatomy
from support.tiny_study import tiny_study

CHECKPOINTS = ("early", "late")


def with_nan(folder: Path) -> None:
    """One NaN in a weight of layer 1."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers[1].mlp.up_proj.weight.data[3, 3] = torch.nan
    model.save_pretrained(folder)


def too_large(folder: Path) -> None:
    """Weights that float16 holds and whose activations it does not."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers[1].mlp.down_proj.weight.data *= 2e4
    model.save_pretrained(folder)


class Run:
    """The concepts study over two checkpoints, by its programs."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        def change(content: dict[str, Any]) -> None:
            content["models"]["local"] |= {"dtype": changes.pop("dtype", "float32")}
            content["concepts"] |= {"models": ["local"], "generate_at": [0], **changes}

        self.folder = folder
        self.study = tiny_study(folder, change)
        weights = save_tiny_checkpoint(
            folder / "weights" / "early", extra_words='English Español "" - : \n'
        )
        shutil.copytree(weights, folder / "weights" / "late")

    def manifest(self, checkpoint: str) -> Path:
        return self.folder / f"{checkpoint}.json"

    def patching(self, checkpoint: str) -> Path:
        return self.folder / "concepts" / "local" / checkpoint / "patching.parquet"

    def tabulated(self) -> dict[str, pl.DataFrame]:
        lexicon = self.folder / "lexicon.tsv"
        prompts = self.folder / "prompts.parquet"
        for name in CHECKPOINTS:
            describe_checkpoint(
                CheckpointLocation(str(self.folder / "weights" / name)),
                model="local",
                checkpoint=name,
                source=name,
                provenance={},
            ).write(self.manifest(name))
        run_main(
            write_prompts,
            jobs_concepts.prompts_settings(self.study, "local"),
            model="local",
            lexicon=lexicon,
            checkpoint=self.manifest("early"),
            output=prompts,
        )
        for name in CHECKPOINTS:
            common = {**ON_CPU, "batch_size": 4, "checkpoint": self.manifest(name)}
            states = self.patching(name).with_name("states.safetensors")
            run_main(
                extract_states,
                jobs_concepts.states_settings(self.study, "local"),
                prompts=prompts,
                output=states,
                **common,
            )
            run_main(
                patch_translations,
                jobs_concepts.patching_settings(self.study, "local"),
                prompts=prompts,
                states=states,
                lexicon=lexicon,
                output=self.patching(name),
                **common,
            )
        run_main(
            tabulate_concepts,
            jobs_concepts.table_settings(self.study),
            sheet=self.folder / "sheet.tsv",
            patching=self.folder / "concepts",
            output=self.folder / "tables",
        )
        names = ("accuracy", "outcomes", "probability")
        return {name: read_table(self.folder / f"tables/concepts_{name}.parquet") for name in names}


@pytest.mark.parametrize(
    ("damage", "dtype", "cause"),
    [
        (with_nan, "float32", r"its training diverged\), or .* beyond even float32"),
        (too_large, "float16", r"its training diverged\), or .*set its `dtype` to float32"),
    ],
)
def test_the_others_are_tabulated_and_the_missing_one_is_named(
    tmp_path: Path, capsys: Any, damage: Any, dtype: str, cause: str
) -> None:
    run = Run(tmp_path, dtype=dtype)
    damage(tmp_path / "weights" / "late")
    for table in run.tabulated().values():
        assert table["checkpoint"].unique().to_list() == ["early"]
    assert read_table(run.patching("late")).is_empty()
    facts = read_provenance(tmp_path / "tables" / "concepts_accuracy.parquet").facts
    (name,) = facts["left_out"]
    assert name == "local/late"
    expected = rf"local late: the states of layer 1 are NaN or infinite; .*{cause}"
    assert re.search(expected, facts["left_out"][name])
    assert capsys.readouterr().out.count("Left out: local late") == 3


def test_a_study_can_ask_to_stop(tmp_path: Path) -> None:
    run = Run(tmp_path, on_diverged="stop")
    with_nan(tmp_path / "weights" / "late")
    with pytest.raises(StudyError, match="local late: the states of layer 1 are NaN or infinite"):
        run.tabulated()


def test_a_study_of_nothing_else_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in CHECKPOINTS:
        with_nan(tmp_path / "weights" / name)
    with pytest.raises(StudyError, match="no checkpoint can be tabulated: local early: the states"):
        run.tabulated()


def test_identities_do_not_pass_for_want_of_numbers() -> None:
    anatomy = tiny_anatomy("llama")
    request = request_for(anatomy)
    with torch.no_grad():
        anatomy.head.weight[5] = torch.nan
    run = run_patching(anatomy, request, batch_size=5)
    with pytest.raises(NotFiniteError, match="es-en: log-probabilities of unpatched prompts are"):
        check_identities(run, request, anatomy, "es-en")


def test_patched_numbers_must_be_finite_too() -> None:
    anatomy = tiny_anatomy("llama")
    request = request_for(anatomy)
    run = run_patching(anatomy, request, batch_size=5)
    log_probabilities = run.log_probabilities.clone()
    log_probabilities[0, 2, 1, 0] = torch.inf
    run = replace(run, log_probabilities=log_probabilities)
    with pytest.raises(NotFiniteError, match="es-en: log-probabilities of patched prompts are NaN"):
        check_identities(run, request, anatomy, "es-en")


def test_the_first_layer_that_is_not_finite_is_named() -> None:
    states = torch.zeros(3, 4, 2)
    check_finite_states({"es-en": states}, "m c", "bfloat16")
    states[1, 2:, 0] = torch.inf
    with pytest.raises(NotFiniteError, match=r"m c: the states of layer 2 are .*what bfloat16 "):
        check_finite_states({"en-es": torch.zeros(3, 4, 2), "es-en": states}, "m c", "bfloat16")
