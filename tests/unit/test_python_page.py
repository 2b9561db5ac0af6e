"""What docs/python.md shows runs as it stands, on small stand-ins of the files that it names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

import glossogenesis
from glossogenesis.sae.files import SaeFacts, write_sae
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import write_table
from support.guide import DOCS, REPOSITORY
from support.tiny_cache import D_MODEL, write_tiny_caches
from support.tiny_checkpoint import save_tiny_checkpoint, write_manifest
from support.tiny_saes import random_sae

PAGE = (DOCS / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MANIFEST = "results/checkpoints/demo/step0450/manifest.json"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's settings, and a file of each kind that the page opens."""
    root = tmp_path_factory.mktemp("study")
    shutil.copy(REPOSITORY / "config.yaml", root)
    (root / "resources").symlink_to(REPOSITORY / "resources")
    results = root / "results"
    weights = save_tiny_checkpoint(root / "weights", extra_words=" ".join(EXAMPLES))
    write_manifest(root / MANIFEST, weights)
    write_tiny_caches(results / "activations/demo/step0450/documents", 3)
    origin = Provenance("concepts_accuracy", "demo", {"seed": 0}, inputs={}, code="0")
    table = pl.DataFrame({"accuracy": [0.5]})
    write_table(results / "tables/concepts_accuracy.parquet", table, origin)
    facts = SaeFacts("model.layers.3", "tiny/model", None, context_size=4, dataset="documents")
    write_sae(results / "sae/demo/step0450/layer_3/topk", random_sae(D_MODEL, 12), facts, origin)
    return root


def test_every_example_runs(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(compile(example, "docs/python.md", "exec"), names)
        assert capsys.readouterr().out, example
    assert set(names["answers"]) == {None, 0, 3}
    assert isinstance(names["cache"], ActivationCache)


def test_patching_with_the_prompts_own_states_changes_nothing(study: Path) -> None:
    checkpoint = glossogenesis.open_checkpoint(study / MANIFEST)
    target = 'Español: "perro" - English: "dog"\nEspañol: "gato'
    answers = checkpoint.patch_translation([target], target, '" - English: "')
    assert set(answers) == {None, 0, 1, 2, 3}
    assert len(set(answers.values())) == 1
    whole = checkpoint.residual_stream([target])
    one = checkpoint.residual_stream([target], layers=[2])
    assert whole.shape == (1, 4, checkpoint.anatomy.d_model)
    torch.testing.assert_close(one[:, 0], whole[:, 2])


def test_a_word_that_merges_with_what_follows_is_refused(study: Path) -> None:
    checkpoint = glossogenesis.open_checkpoint(study / MANIFEST)
    with pytest.raises(ValueError, match="the tokenizer merges the end of 'ga' with 'to"):
        checkpoint.patch_translation(["gato"], "ga", 'to" - English: "')


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, glossogenesis\n"
        "assert 'torch' not in sys.modules and 'polars' not in sys.modules\n"
        "assert not set(glossogenesis.__all__) - {n for n in glossogenesis.__all__ "
        "if hasattr(glossogenesis, n)}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'pacth'"):
        _ = glossogenesis.pacth
