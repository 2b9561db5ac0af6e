"""Which source pairs a patched setting has: the published rule, on the paper's languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.study.loading import load_study
from glossogenesis.study.study import Study
from glossogenesis.workflow.jobs_concepts import pair_name, seen_pairs, source_pairs
from support.tiny_study import tiny_study

STUDIES = Path(__file__).parents[3] / "resources" / "studies"


@pytest.fixture(scope="module")
def paper() -> Study:
    return load_study(STUDIES / "koerner2026.yaml")


@pytest.mark.parametrize(
    ("target", "count"),
    [(("es", "en"), 42), (("sw", "en"), 56), (("en", "zh"), 42), (("fr", "zh"), 30)],
)
def test_published_numbers_of_seen_pairs(paper: Study, target: tuple[str, str], count: int) -> None:
    pairs = seen_pairs(paper, target)
    assert len(set(pairs)) == len(pairs) == count
    languages = {code for pair in pairs for code in pair}
    assert not languages & {"en", "sw", "cy", *target}
    assert "yue" in languages


def test_all_pairs_of_the_paper(paper: Study) -> None:
    pairs = {pair for by in source_pairs(paper).values() for group in by.values() for pair in group}
    assert len(source_pairs(paper)) == 24
    assert len(pairs) == 71


def test_settings_of_a_target_pair(tmp_path: Path) -> None:
    pairs = source_pairs(tiny_study(tmp_path))
    assert pairs == {
        "es-en": {
            "seen": [("fi", "ru"), ("ru", "fi")],
            "tgt": [("es", "en")],
            "en_en": [("en", "en")],
            "copy": [("en", "en")],
        }
    }
    assert pair_name(("es", "en")) == "es-en"


def test_related_and_unseen_languages_are_left_out(tmp_path: Path) -> None:
    study = tiny_study(
        tmp_path,
        lambda s: (
            s["concepts"].update(
                target_pairs=[["en", "fi"]], exclude_related={"fi": ["es"]}, settings=["seen"]
            ),
            s["languages"].update(de={**s["languages"]["es"], "seen": True, "share": {}}),
            s["languages"]["ru"].update(seen=False),
        ),
    )
    with pytest.raises(StudyError, match=r"`seen`, but no two seen languages remain .* en-fi"):
        source_pairs(study)
    assert [code for code, facts in study.settings.languages.items() if facts.is_seen] == [
        "en", "es", "fi", "de",
    ]  # fmt: skip
