"""What a study makes from a checkpoint's weights, before whose end they are not removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glossogenesis.study.loading import load_study
from glossogenesis.study.study import Study
from glossogenesis.workflow.disk import made_from_weights
from glossogenesis.workflow.registry import STAGES
from support.tiny_features_study import tiny_features_study


def made(study: Study, checkpoint: str) -> set[str]:
    return set(made_from_weights(study)["local", checkpoint])


def test_each_part_names_what_it_reads_weights_for(tmp_path: Path) -> None:
    study = tiny_features_study(tmp_path)
    activations = {
        f"activations/local/late/text/layer_{layer}/manifest.json" for layer in (1, 3, 5)
    }
    recovery = {f"recovery/local/late/{sae}.parquet" for sae in ("topk", "wide")}
    injection = {"injection/local/early/perplexity.parquet"}
    concepts = {
        f"concepts/local/late/{name}" for name in ("states.safetensors", "patching.parquet")
    }
    own = activations | recovery | concepts
    # The last checkpoint gives token vectors, and the features that are injected into the others.
    assert made(study, "late") == own | injection | {"embeddings/local/tokens.safetensors"}
    early = {path.replace("/late/", "/early/") for path in own}
    assert made(study, "early") == early | injection


def test_parts_that_are_off_and_streams_change_it(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["concepts"]["enabled"] = False
        del content["features"]["injection"]
        content["features"] |= {"recovery": {"enabled": False}, "activations": {"mode": "stream"}}

    streamed = made(tiny_features_study(tmp_path, change), "early")
    names = {Path(path).name for path in streamed}
    assert names == {"manifest.json", "sae_weights.safetensors"}
    saes = {path.split("/")[4] for path in streamed if path.startswith("sae/")}
    assert saes == {"topk", "topk.seed5", "wide"}


@pytest.mark.parametrize(("keep_downloads", "removed"), [(False, ["early", "late"]), (True, [])])
def test_downloads_are_removed_where_they_are_not_kept(
    tmp_path: Path, keep_downloads: bool, removed: list[str]
) -> None:
    tiny_features_study(tmp_path, lambda s: s.update(hub={"keep_downloads": keep_downloads}))
    sheet = tmp_path / "sheet.tsv"
    text = sheet.read_text(encoding="utf-8").replace("./weights/", "org/")
    sheet.write_text(text, encoding="utf-8")
    setups = STAGES["remove_download"].jobs_in(load_study(tmp_path / "study.yaml"))
    assert [setup["checkpoint"] for setup in setups] == removed


def test_a_training_that_starts_from_a_checkpoint_reads_it(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["pretrain"]["more"] = {
            **{key: content["pretrain"]["small"][key] for key in ("text", "steps")},
            "saved_steps": [8],
            "start": {"model": "local", "checkpoint": "late"},
        }
        content["models"]["more"] = {"gpus": 0, "parameters": 1e5, "n_layers": 6}
        with (tmp_path / "sheet.tsv").open("a", encoding="utf-8") as sheet:
            sheet.write("more\tend\t8\t\t1\tpretrain:more\t\t\n")

    study = tiny_features_study(tmp_path, change)
    assert "pretraining/more/manifest.json" in made(study, "late")
    assert "pretraining/more/manifest.json" not in made(study, "early")
