"""Slices of a study: each stage's holds what changes its results and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glossogenesis.corpora.lexicon import CONCEPTICON_COLUMNS, read_lexicon
from glossogenesis.study.loading import load_study
from glossogenesis.study.study import Study
from glossogenesis.workflow import jobs_concepts
from support.tiny_study import replace, tiny_study


def slices(study: Study) -> dict[str, str]:
    """Every stage's settings as text, as rules record them."""
    made = {
        "pretrain": jobs_concepts.pretrain_settings(study, "small"),
        "checkpoint": jobs_concepts.checkpoint_settings(study, "local", "early"),
        "prompts": jobs_concepts.prompts_settings(study, "local"),
        "states": jobs_concepts.states_settings(study, "local"),
        "patching": jobs_concepts.patching_settings(study, "local"),
        "table": jobs_concepts.table_settings(study),
        "figure": jobs_concepts.figure_settings(study),
    }
    return {stage: json.dumps(settings, sort_keys=True) for stage, settings in made.items()}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda s: s["models"]["local"].update(batch_size=7, threads=2, device="cpu"), set()),
        (lambda s: s.update(description="Another."), set()),
        (lambda s: s["models"]["local"].update(label="Local"), {"figure"}),
        (lambda s: s["models"]["local"].update(dtype="bfloat16"), {"states", "patching"}),
        (lambda s: s["models"]["local"].update(tokenizer="a/b"), {"checkpoint"}),
        (lambda s: s["models"]["local"].update(add_special_tokens=False), {"prompts"}),
        (lambda s: s["concepts"].update(max_new_tokens=9), {"patching"}),
        (lambda s: s["concepts"].update(start_layers=[0]), {"patching"}),
        (lambda s: s["concepts"].update(items=5), {"prompts"}),
        (lambda s: s["concepts"].update(resamples=300), {"table"}),
        (lambda s: s["concepts"].update(figure_start_layer=1), {"figure"}),
        (lambda s: s["pretrain"]["small"].update(seeds=[3]), {"pretrain"}),
        (lambda s: s["lexicon"].update(limit=12), {"pretrain", "prompts", "patching"}),
        (lambda s: s["languages"]["es"].update(group="other"), {"figure"}),
    ],
)
def test_a_key_changes_its_stages_alone(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], changed: set[str]
) -> None:
    before, after = slices(tiny_study(tmp_path)), slices(tiny_study(tmp_path, change))
    assert {stage for stage in before if before[stage] != after[stage]} == changed


@pytest.mark.parametrize("format", ["tsv", "concepticon"])
def test_the_concepts_trained_on_are_those_tested(tmp_path: Path, format: str) -> None:
    """Finnish is not trained on and lacks a word: a published list then has one concept less."""
    study = tiny_study(
        tmp_path,
        lambda s: (
            s["lexicon"].update(format=format, path="words.tsv", limit=None),
            s["languages"]["fi"].update(share={}),
            s["concepts"].update(settings=["tgt"]),
        ),
    )
    columns = {"tsv": "concept\tpos\tcategory\thypernym", "concepticon": "CONCEPTICON_GLOSS"}
    facts = {"tsv": "\tnoun\tanimal\tanimal", "concepticon": ""}
    codes = list(study.settings.languages)
    names = codes if format == "tsv" else [CONCEPTICON_COLUMNS[code] for code in codes]
    lines = ["\t".join([columns[format], *names])]
    for concept in ("cat", "dog", "owl"):
        words = [f"{concept}{code}" for code in codes]
        if concept == "dog" and format == "concepticon":
            words[codes.index("fi")] = "-"
        lines.append("\t".join([concept + facts[format], *words]))
    path = tmp_path / "words.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    trained = jobs_concepts.pretrain_settings(study, "small")["lexicon"]
    tested = jobs_concepts.prompts_settings(study, "small")["lexicon"]
    found = [
        [concept.name for concept in read_lexicon(path, **settings).concepts]
        for settings in (trained, tested)
    ]
    assert (
        found[0]
        == found[1]
        == (["cat", "owl"] if format == "concepticon" else ["cat", "dog", "owl"])
    )


def test_a_checkpoint_added_changes_no_slice(tmp_path: Path) -> None:
    """Aggregates take the sheet itself as an input; no other stage may see it."""
    before = slices(tiny_study(tmp_path))
    study = tiny_study(tmp_path)
    replace(
        tmp_path / "sheet.tsv", "local\tlate", "local\tadded\t15\t\t1\t./added\t\t\nlocal\tlate"
    )
    assert slices(load_study(study.file)) == before


def test_local_paths_are_resolved_and_hub_ids_left(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, lambda s: s["models"]["local"].update(tokenizer="./tok"))
    settings = jobs_concepts.checkpoint_settings(study, "local", "early")
    assert Path(settings["source"]).resolve() == (tmp_path / "weights" / "early").resolve()
    assert Path(settings["tokenizer"]).resolve() == (tmp_path / "tok").resolve()
    settings = jobs_concepts.checkpoint_settings(study, "small", "end")
    assert (settings["source"], settings["step"]) == ("pretrain:small", 8)
    assert jobs_concepts.is_local("~/m")
    assert not jobs_concepts.is_local("someone/m")


def test_prompts_hold_all_source_pairs_once(tmp_path: Path) -> None:
    pairs = jobs_concepts.prompts_settings(tiny_study(tmp_path), "local")["source_pairs"]
    assert pairs == [["en", "en"], ["es", "en"], ["fi", "ru"], ["ru", "fi"]]


def test_settings_are_plain(tmp_path: Path) -> None:
    """What Snakemake records must survive JSON."""
    for text in slices(tiny_study(tmp_path)).values():
        assert json.dumps(json.loads(text), sort_keys=True) == text
