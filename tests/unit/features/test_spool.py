"""Fired latents on disk: what comes back, what it costs, and that nothing stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.features.firing import TOKEN_IDS, FiredBlock, LatentSpool, as_stored, open_spool


def block_of(counts: list[int], n_latents: int, *, scale: float = 1.0, seed: int = 0) -> FiredBlock:
    generator = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(counts)), counts)
    latents = [generator.choice(n_latents, count, replace=False) for count in counts]
    tokens = np.zeros(len(counts), TOKEN_IDS)
    tokens["context"], tokens["token_id"] = 7, generator.integers(0, 100, len(counts))
    return FiredBlock(
        rows=rows,
        latents=np.concatenate(latents).astype(np.int64),
        values=(generator.random(len(rows)) * scale + 1e-3 * scale).astype(np.float32),
        tokens=tokens,
    )


@pytest.mark.parametrize("n_latents", [40, 1 << 16, (1 << 16) + 1])
@pytest.mark.parametrize("k", [None, 6])
def test_blocks_come_back_in_order(tmp_path: Path, n_latents: int, k: int | None) -> None:
    written = [block_of([3, 0, 6], n_latents), block_of([0], n_latents), block_of([6], n_latents)]
    with open_spool(tmp_path, n_latents, k) as spool:
        for block in written:
            spool.append(block)
        for _ in range(2):
            for block, found in zip(written, spool.blocks(), strict=True):
                assert found.rows.tolist() == block.rows.tolist()
                assert found.latents.tolist() == block.latents.tolist()
                assert (found.tokens == block.tokens).all()
                assert found.values == pytest.approx(block.values, rel=2**-11)
                assert found.values.tolist() == as_stored(block.values).tolist()


def test_a_latent_takes_four_bytes(tmp_path: Path) -> None:
    with open_spool(tmp_path, 32_768, 32) as spool:
        spool.append(block_of([32] * 100, 32_768))
        assert spool.latent_bytes == 4 * spool.stored_latents == 4 * 3200
    with open_spool(tmp_path, 32_768, None) as spool:
        spool.append(block_of([32] * 100, 32_768))
        assert spool.latent_bytes == 4 * 3200 + 2 * 100
    with open_spool(tmp_path, 100_000, 32) as spool:
        spool.append(block_of([32] * 100, 100_000))
        assert spool.latent_bytes == 6 * 3200


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e3, 1e8])
def test_activations_of_any_size_keep_their_digits(tmp_path: Path, scale: float) -> None:
    block = block_of([20] * 5, 40, scale=scale)
    with open_spool(tmp_path, 40, None) as spool:
        spool.append(block)
        (found,) = spool.blocks()
    assert found.values == pytest.approx(block.values, rel=2**-11)


@pytest.mark.parametrize("k", [None, 4])
def test_the_smallest_activation_is_not_lost(tmp_path: Path, k: int | None) -> None:
    block = block_of([3], 40)
    block.values[:] = [1.0, 1e-30, 2.0]
    with open_spool(tmp_path, 40, k) as spool:
        spool.append(block)
        (found,) = spool.blocks()
    assert found.latents.tolist() == block.latents.tolist()
    assert 0 < found.values[1] < 1e-8


def test_nothing_stays_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_spool(tmp_path, 40, None) as spool:
        spool.append(block_of([3], 40))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_line() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        spool = LatentSpool(full, full, 40, None, Path("results/features"))
        with pytest.raises(StudyError, match="results/features: the disk is full after 0 bytes"):
            spool.append(block_of([3], 40))


def test_rounding_keeps_equal_values_equal() -> None:
    values = np.array([0.7, 1.0, 0.0, 3e4, 1e-5], np.float32)
    assert as_stored(as_stored(values)).tolist() == as_stored(values).tolist()
    assert as_stored(values) == pytest.approx(values, rel=2**-11)
