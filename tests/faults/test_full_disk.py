"""A disk that fills up while a study runs: with more room, the study goes on to the same bytes."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.faults.fault_study import TABLES, FaultTree, artifacts, copy_of, differences
from support.faults.small_disk import bytes_on_disk, small_disk

REMADE = ("sae", "recovery", "features", "tables")
"""What is made on the small disk; the rest is there."""


@pytest.mark.slow
def test_a_full_disk_is_named_and_nothing_is_lost(
    undisturbed: FaultTree, expected: dict[str, str], tmp_path: Path
) -> None:
    tree = copy_of(undisturbed, tmp_path / "tree")
    needed = bytes_on_disk(tree.results)
    kept = tmp_path / "kept"
    tree.results.rename(kept)
    for name in REMADE:
        shutil.rmtree(kept / name)
    room = needed - bytes_on_disk(kept)
    with ExitStack() as stack:
        try:
            disk = small_disk(tree.results, bytes_on_disk(kept) + room // 3)
            mounted = stack.enter_context(disk)
        except OSError as error:
            pytest.skip(f"no small disk here: {error}")
        shutil.copytree(kept, tree.results, dirs_exist_ok=True)
        assert tree.run(*TABLES) != 0
        assert "disk is full" in tree.printed(), tree.printed()
        assert "Traceback" not in tree.printed()
        mounted.resize(10 * needed)
        tree.run_to_the_end(*TABLES, attempts=2)
        assert differences(artifacts(tree.results), expected) == []
