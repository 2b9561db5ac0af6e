"""Artifacts that were damaged after they were finished are found, named and made again."""

import re
from pathlib import Path

import pytest

from support.faults.damage import cut_in_half, flip_a_bit, flip_a_late_bit
from support.faults.fault_study import TABLES, FaultTree, artifacts, copy_of, differences

FEATURES = "results/features/tiny/last/layer_1/topk/statistics.parquet"
PATCHING = "results/concepts/tiny/middle/patching.parquet"
STAGES = "results/tables/features_stages.parquet"
TEXT = "results/tables/concepts_accuracy.csv"


@pytest.mark.slow
def test_damage_is_refused_or_found_and_its_fix_ends_in_equal_bytes(
    undisturbed: FaultTree, expected: dict[str, str], tmp_path: Path
) -> None:
    tree = copy_of(undisturbed, tmp_path / "tree")
    # What a job reads, it refuses by name.
    for path in (PATCHING, FEATURES):
        flip_a_late_bit(tree.root / path)
    assert tree.run(*TABLES, "--keep-going") != 0
    refused = set(re.findall(r"Error: (\S+): damaged .*; delete it and rerun", tree.printed()))
    assert refused == {PATCHING, FEATURES}
    for path in refused:
        (tree.root / path).unlink()
    tree.run_to_the_end(*TABLES, attempts=1)
    assert differences(artifacts(tree.results), expected) == []
    # What nothing reads again is found when it is looked for.
    assert tree.glossogenesis("verify").returncode == 0
    cut_in_half(tree.root / TEXT)
    flip_a_bit(tree.root / STAGES)
    found = tree.glossogenesis("verify")
    assert found.returncode == 1
    assert set(re.findall(r"damaged: (\S+): ", found.stderr)) == {TEXT, STAGES}
    tree.follow_the_fix(found.stderr)
    assert differences(artifacts(tree.results), expected) == []
