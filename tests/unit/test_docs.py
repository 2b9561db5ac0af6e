"""The user guide names every key, column and artifact that there is, and nothing else."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from glossogenesis import __version__
from glossogenesis.concepts.scoring import OUTCOMES, SETTINGS
from glossogenesis.inspection.columns import meanings_of, table_meanings
from glossogenesis.inspection.content import KINDS
from glossogenesis.inspection.guide import MARKED, renewed, sections
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.storage.provenance import Provenance
from support.guide import DOCS, REPOSITORY, table_below

GUIDE = sorted(DOCS.glob("*.md"))
PAGES = [*GUIDE, REPOSITORY / "results" / "README.md", REPOSITORY / "README.md"]


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.name)
def test_tables_of_keys_and_columns_are_in_step(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == renewed(text, page.name), "run `make docs`"


def test_every_section_and_table_is_on_one_page() -> None:
    printed = Counter(
        found.group(2, 3)
        for page in GUIDE
        for found in MARKED.finditer(page.read_text(encoding="utf-8"))
    )
    tables = table_meanings().keys() - {"tokenised_posts"}  # another corpus' vocabulary
    marked = [*(("keys", name) for name in sections()), *(("columns", name) for name in tables)]
    assert printed == Counter(marked)


def test_every_table_of_the_workflow_has_meanings() -> None:
    for kind, ending in KINDS:
        if ending.endswith(".parquet"):
            assert meanings_of(Path(ending), {"kind": kind}), (kind, ending)


@pytest.mark.parametrize("kind", [Provenance, CheckpointManifest])
def test_every_field_of_provenance_and_manifests_is_in_the_guide(kind: type) -> None:
    rows = table_below("artifacts.md", f"fields: {kind.__name__}")
    assert set(rows) == {field.name for field in dataclasses.fields(kind)}


def test_every_setting_outcome_condition_and_arm_is_explained() -> None:
    methods = (DOCS / "methods.md").read_text(encoding="utf-8")
    for name in (*SETTINGS, *OUTCOMES):
        assert f"`{name}`" in methods, name
    methods = (DOCS / "robustness_methods.md").read_text(encoding="utf-8")
    for name in ("random", "frequency", "other", "mean", "zero", "resample", "sentence", "carrier"):
        assert f"`{name}`" in methods, name


def test_map_of_results_uses_the_words_of_inspect():
    page = (REPOSITORY / "results" / "README.md").read_text(encoding="utf-8")
    for words in KINDS.values():
        assert words in page, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        linked = (page.parent / file) if file else page
        if page.name == "README.md" and linked.suffix == ".svg":
            continue
        assert linked.exists(), f"{page.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
            assert heading in slugs, f"{page.name} links to {target}"


def test_yaml_and_json_examples_can_be_read():
    for page in PAGES:
        for example in re.findall(r"```yaml\n(.+?)```", page.read_text("utf-8"), re.S):
            assert isinstance(yaml.safe_load(example), dict), page.name


def test_citation_and_changelog_name_the_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == "MIT"
    assert f"[{__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
