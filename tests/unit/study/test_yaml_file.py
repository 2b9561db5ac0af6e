"""Paths of a study of several files count each from the file that names it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

from glossogenesis.study.frozen import freeze
from glossogenesis.study.loading import load_merged, load_study
from glossogenesis.study.study import Study
from support.tiny_features_study import tiny_features_study
from support.tiny_study import SHEET


def merged(*files: Path) -> dict[str, Any]:
    """What Snakemake makes of `--configfile` with several files."""
    config: dict[str, Any] = {}
    for file in files:
        update_config(config, yaml.safe_load(file.read_text(encoding="utf-8")))
    return config


def override(folder: Path, content: dict[str, Any], name: str = "over.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return folder / name


def base_study(folder: Path) -> Path:
    (folder / "base").mkdir()
    return tiny_features_study(folder / "base").file


def paths(study: Study) -> list[Path]:
    files = study.settings.corpora["text"].text.files
    written = [study.settings.checkpoints, study.lexicon.path, *files["en"], *files["ru"]]
    return [Path(study.path(path)).resolve() for path in written]


def test_an_override_without_paths_changes_none(tmp_path: Path) -> None:
    base = base_study(tmp_path)
    over = override(tmp_path / "elsewhere", {"concepts": {"items": 5}})
    study, content = load_merged(merged(base, over), [base, over])
    assert study.concepts.items == 5
    assert study.file == base
    assert paths(study) == paths(load_study(base))
    assert content["checkpoints"] == "sheet.tsv"


def test_paths_count_from_the_file_that_names_them(tmp_path: Path) -> None:
    base = base_study(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    changes = {
        "checkpoints": "other.tsv",
        "lexicon": {"path": "words/lexicon.tsv"},
        "models": {"local": {"tokenizer": "./tokenizer"}, "small": {"tokenizer": "someone/model"}},
        "corpora": {"text": {"text": {"files": {"ru": ["/data/ru.txt", "ru.txt"]}}}},
        "pathvars": {"results": "results"},
    }
    over = override(elsewhere, changes)
    (elsewhere / "other.tsv").write_text(SHEET, encoding="utf-8")
    study, content = load_merged(merged(base, over), [base, over])
    assert paths(study) == [
        elsewhere / "other.tsv",
        elsewhere / "words" / "lexicon.tsv",
        tmp_path / "base" / "en.txt",
        Path("/data/ru.txt"),
        elsewhere / "ru.txt",
    ]
    tokenizer = study.settings.models["local"].tokenizer
    assert tokenizer is not None
    assert tokenizer.startswith("./")
    assert Path(study.path(tokenizer)).resolve() == elsewhere / "tokenizer"
    assert study.settings.models["small"].tokenizer == "someone/model"
    assert study.settings.pathvars == {"results": "results"}
    early = study.checkpoint("local", "early")
    assert Path(study.path(early.source)).resolve() == elsewhere / "weights" / "early"
    assert study.checkpoint("small", "start").source == "pretrain:small"
    # What jobs read is the same study.
    frozen = freeze(content, study.name, study.file, study.sheet, tmp_path / "results")
    frozen.write()
    job, _ = load_merged(yaml.safe_load(frozen.study), [frozen.file])
    assert paths(job) == paths(study)
    assert job.sheet == study.sheet


def test_the_last_file_that_names_a_path_decides(tmp_path: Path) -> None:
    base = base_study(tmp_path)
    one = override(tmp_path / "one", {"lexicon": {"path": "lexicon.tsv"}})
    two = override(tmp_path / "two", {"lexicon": {"path": "lexicon.tsv"}})
    for files, folder in (((base, one, two), "two"), ((base, two, one), "one")):
        study, _ = load_merged(merged(*files), files)
        assert Path(study.lexicon_path or "").resolve() == tmp_path / folder / "lexicon.tsv"
    # The command line names a path in place of both: it counts from the study.
    config = deepcopy(merged(base, one, two)) | {"lexicon": {"path": "mine.tsv"}}
    study, _ = load_merged(config, [base, one, two])
    assert Path(study.lexicon_path or "").resolve() == tmp_path / "base" / "mine.tsv"


def test_the_literal_of_an_embedding_is_no_path(tmp_path: Path) -> None:
    base = base_study(tmp_path)
    for written, expected in (("input", "input"), ("e.safetensors", None)):
        changes = {"features": {"monosemanticity": {"embedding": written}}}
        over = override(tmp_path / "elsewhere", changes)
        study, _ = load_merged(merged(base, over), [base, over])
        found = str(study.features.monosemanticity.embedding)
        if expected is None:
            assert Path(study.path(found)).resolve() == tmp_path / "elsewhere" / written
        else:
            assert found == expected
