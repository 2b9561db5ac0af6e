"""What a folder's small files say stops a plan, before any weights are looked at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.study.loading import load_study
from glossogenesis.workflow import preflight
from glossogenesis.workflow.preflight import check_small_files
from support.tiny_checkpoint import save_tiny_checkpoint
from support.tiny_features_study import tiny_features_study
from support.tiny_study import replace, tiny_study


def in_place(folder: Path, **options: Any) -> Path:
    """The two folders of the tiny study, without weights: they are not looked at."""
    early = save_tiny_checkpoint(folder / "weights" / "early", **options)
    (early / "model.safetensors").unlink()
    shutil.copytree(early, folder / "weights" / "late")
    return folder / "weights" / "late"


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_good_study_has_nothing_to_say(tmp_path: Path) -> None:
    in_place(tmp_path)
    assert check_small_files(tiny_study(tmp_path), tmp_path / "results") == []


def test_prompts_that_absolute_positions_do_not_hold_are_refused(tmp_path: Path) -> None:
    in_place(tmp_path, architecture="gpt2", n_positions=24)
    study = tiny_study(tmp_path)
    with pytest.raises(
        StudyError, match=r"config.json: prompts with their answers of \d+ tokens, .* 24 positions"
    ):
        check_small_files(study, tmp_path / "results")
    with pytest.raises(StudyError, match="24 positions and cannot read on"):
        preflight.check_files(study, tmp_path / "results")


def test_prompts_longer_than_rotary_positions_are_said(tmp_path: Path) -> None:
    in_place(tmp_path, max_position_embeddings=24)
    (line,) = check_small_files(tiny_study(tmp_path), tmp_path / "results")
    assert "prompts with their answers of" in line
    assert "24 positions in training" in line


def without_concepts(content: dict[str, Any]) -> None:
    content["models"]["local"]["n_layers"] = 4
    del content["concepts"]


def test_contexts_longer_than_positions_are_said_or_refused(tmp_path: Path) -> None:
    in_place(tmp_path, max_position_embeddings=4)
    study = tiny_features_study(tmp_path, lambda s: s["models"]["local"].update(n_layers=4))
    context = study.settings.corpora[study.features.corpus].context
    lines = check_small_files(study, tmp_path / "results")
    assert f"contexts of {context} tokens, but the model has 4 positions in training" in lines[1]
    assert "lower `corpora.text.context`" in lines[1]
    for name in ("early", "late"):
        change_config(tmp_path / "weights" / name, model_type="gpt2", n_positions=4)
    study = tiny_features_study(tmp_path, without_concepts)
    with pytest.raises(StudyError, match=f"contexts of {context} tokens, but the model has 4 pos"):
        check_small_files(study, tmp_path / "results")


def test_a_pretrained_models_positions_are_known_too(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["pretrain"]["small"]["model"]["positions"] = 8
        content["pretrain"]["small"]["context"] = 8
        content["models"]["local"]["n_layers"] = 4

    study = tiny_features_study(tmp_path, change)
    lines = check_small_files(study, tmp_path / "results")
    assert any("`pretrain.small.model.positions`: contexts of" in line for line in lines)


def test_an_unsupported_architecture_stops_a_plan(tmp_path: Path) -> None:
    change_config(in_place(tmp_path), model_type="olmo3")
    with pytest.raises(StudyError, match=r"late/config.json: architecture 'olmo3' is not.*olmo2"):
        check_small_files(tiny_study(tmp_path), tmp_path / "results")


def test_layers_that_the_study_names_are_compared_with_the_model(tmp_path: Path) -> None:
    in_place(tmp_path)
    study = tiny_study(tmp_path, lambda s: s["models"]["local"].update(n_layers=5))
    with pytest.raises(StudyError, match=r"`models.local.n_layers` is 5, but .*json has 4"):
        check_small_files(study, tmp_path / "results")
    study = tiny_study(tmp_path, lambda s: s["models"]["local"].update(layers=[0, 4]))
    with pytest.raises(StudyError, match=r"`models.local.layers` names layer 4, but its last is 3"):
        check_small_files(study, tmp_path / "results")


def test_two_tokenizers_of_one_model_are_refused(tmp_path: Path) -> None:
    late = in_place(tmp_path)
    shutil.rmtree(late)
    save_tiny_checkpoint(late, extra_words="unicorn")
    study = tiny_study(tmp_path)
    with pytest.raises(StudyError, match="'late' has another tokenizer than 'early' of model 'loc"):
        check_small_files(study, tmp_path / "results")
    elsewhere = tiny_study(tmp_path, lambda s: s["models"]["local"].update(tokenizer="./weights"))
    assert check_small_files(elsewhere, tmp_path / "results") == []


def test_a_tokenizer_beyond_the_models_vocabulary_is_said(tmp_path: Path) -> None:
    in_place(tmp_path, vocab_size=20)
    (line,) = check_small_files(tiny_study(tmp_path), tmp_path / "results")
    assert "tokenizer.json: has token ids up to" in line
    assert "the model embeds only 20 tokens" in line


def test_checkpoints_in_subfolders_share_the_tokenizer_above(tmp_path: Path) -> None:
    late = in_place(tmp_path)
    (late / "step").mkdir()
    (late / "config.json").rename(late / "step" / "config.json")
    study = tiny_study(tmp_path)
    replace(tmp_path / "sheet.tsv", "./weights/late\t\t", "./weights/late\t\tstep")
    assert check_small_files(load_study(study.file), tmp_path / "results") == []
