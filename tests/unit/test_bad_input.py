"""The catalogue of bad input: each mistake gets one line that names the place and the fix.

A good small study is broken in one way and then taken as far as its prompts, by the steps that the
workflow takes: read, check, look at files, take up checkpoints, build prompts, compare tokenizers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glossogenesis.concepts.prompts import build_prompts
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.loading import load_tokenizer
from glossogenesis.models.manifest import describe_checkpoint
from glossogenesis.study.loading import load_study
from glossogenesis.workflow import jobs_concepts, preflight
from support.hostile_content import places
from support.tiny_checkpoint import save_tiny_checkpoint
from support.tiny_study import SHEET, STUDY, change_study, replace, tiny_lexicon, write_tiny_study

Break = Callable[[Path], object]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def study_folder(saved: Path, tmp_path: Path) -> Path:
    """A good study with two checkpoints of one model in place."""
    write_tiny_study(tmp_path)
    for name in ("early", "late"):
        shutil.copytree(saved, tmp_path / "weights" / name)
    return tmp_path


def run_to_prompts(folder: Path) -> None:
    """Take a study as far as its prompts."""
    study = load_study(folder / "study.yaml")
    preflight.check(study)
    preflight.check_files(study, folder / "results")
    manifests = []
    for row in study.checkpoints_of("local"):
        facts = jobs_concepts.checkpoint_settings(study, "local", row.checkpoint)
        location = CheckpointLocation(facts["source"], facts["revision"], facts["subfolder"])
        manifests.append(
            describe_checkpoint(
                location, model="local", checkpoint=row.checkpoint, source="", provenance={}
            )
        )
    slice_ = jobs_concepts.prompts_settings(study, "local")
    tokenizer = load_tokenizer(manifests[0].tokenizer_location)
    build_prompts(
        read_lexicon(study.lexicon_path, **slice_["lexicon"]),
        lambda text: list(tokenizer.encode(text)),
        **{key: slice_[key] for key in ("endonyms", "items", "few_shot", "seed", "space_variants")},
        source_pairs=[tuple(pair) for pair in slice_["source_pairs"]],
        measured_pairs=[tuple(pair) for pair in slice_["measured_pairs"]],
    )
    for manifest in manifests:
        manifest.check_tokenizer(manifests[0].tokenizer_digest, folder / "prompts.parquet")


def study(change: Callable[[dict[str, Any]], object]) -> Break:
    """Break the study file by changing its content."""
    return lambda folder: change_study(folder, change)


def text(name: str, old: str, new: str) -> Break:
    """Break a file by replacing a text in it."""
    return lambda folder: replace(folder / name, old, new)


def recode(name: str, encoding: str) -> Break:
    """Save a file in another encoding."""

    def break_(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_text(encoding="utf-8").encode(encoding, "replace"))

    return break_


def same_first_token(folder: Path) -> None:
    """Let many English words begin alike, so that few concept pairs are left."""
    lines = tiny_lexicon().splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    for row in rows[:-2]:
        row[4] = f"cat {row[4]}"
    changed = [lines[0], *("\t".join(row) for row in rows)]
    (folder / "lexicon.tsv").write_text("\n".join(changed), encoding="utf-8")
    change_study(folder, lambda s: s["concepts"].update(items=60))


def pickled(folder: Path) -> None:
    weights = folder / "weights" / "late"
    (weights / "model.safetensors").rename(weights / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    weights = folder / "weights" / "late" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def other_tokenizer(folder: Path) -> None:
    save_tiny_checkpoint(folder / "weights" / "late", extra_words="unicorn")


def missing_shard(folder: Path) -> None:
    (folder / "weights" / "late" / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors"}}
    (folder / "weights" / "late" / "model.safetensors.index.json").write_text(json.dumps(index))


CATALOGUE: dict[str, tuple[Break, str]] = {
    "unknown key": (
        study(lambda s: s["concepts"].update(few_shots=3)),
        r"study.yaml: unknown key `concepts.few_shots`; did you mean `few_shot`\?$",
    ),
    "malformed YAML": (
        text("study.yaml", "lexicon: {path", "lexicon: {{path"),
        r"study.yaml, line \d+: not valid YAML \(.*\); correct its indentation and brackets$",
    ),
    "language missing in the lexicon": (
        study(lambda s: s["languages"].update(de={**s["languages"]["es"], "endonym": "Deutsch"})),
        r"lexicon.tsv: no column 'de' for language 'de'; add it, or .* or take the language out",
    ),
    "empty lexicon cell": (
        text("lexicon.tsv", "\tkissa\t", "\t\t"),
        r"lexicon.tsv, line 2: concept 'cat' has no word in column 'fi'; fill the cell or remove",
    ),
    "lexicon in another encoding": (
        recode("lexicon.tsv", "koi8-r"),
        r"lexicon.tsv: not UTF-8 text; save the lexicon as UTF-8$",
    ),
    "study in another encoding": (
        recode("study.yaml", "utf-16"),
        r"study.yaml: not UTF-8 text; save the study file as UTF-8$",
    ),
    "sheet in another encoding": (
        recode("sheet.tsv", "utf-16"),
        r"sheet.tsv: not UTF-8 text; save the checkpoint sheet as UTF-8$",
    ),
    "no lexicon": (
        lambda folder: (folder / "lexicon.tsv").unlink(),
        r"lexicon.tsv: no such lexicon; put it there or correct `lexicon.path` in .*study.yaml$",
    ),
    "no sheet": (
        lambda folder: (folder / "sheet.tsv").unlink(),
        r"sheet.tsv: no such checkpoint sheet; see `checkpoints` in the study$",
    ),
    "no study": (
        lambda folder: (folder / "study.yaml").unlink(),
        r"study.yaml: no such study file; name another$",
    ),
    "sheet with semicolons": (
        lambda folder: (folder / "sheet.tsv").write_text(SHEET.replace("\t", ";")),
        r"sheet.tsv: no column 'model'; the first line names the columns, separated by tabs$",
    ),
    "lexicon with commas": (
        lambda folder: (folder / "lexicon.tsv").write_text(tiny_lexicon().replace("\t", ",")),
        r"lexicon.tsv: no column 'concept' for each concept; add it",
    ),
    "duplicate checkpoint rows": (
        text("sheet.tsv", "local\tlate", "local\tearly"),
        r"sheet.tsv: model 'local' has checkpoint 'early' twice; remove a row or rename it$",
    ),
    "one checkpoint under two names": (
        text("sheet.tsv", "./weights/late", "./weights/early"),
        r"sheet.tsv: checkpoints 'early' and 'late' of model 'local' have the same source",
    ),
    "model with a path-like name": (
        text("sheet.tsv", "local\tlate", "../local\tlate"),
        r"sheet.tsv, line 3: column 'model': '../local': names become parts of paths: begin with a",
    ),
    "step that is not saved": (
        text("sheet.tsv", "end\t8", "end\t6"),
        r"sheet.tsv: checkpoint 'end' is step 6, which `pretrain.small.saved_steps` in .*yaml "
        r"does not save; it saves 0, 8$",
    ),
    "start layer beyond the last of a pretrained model": (
        study(lambda s: s["concepts"].update(start_layers=[0, 2])),
        r"study.yaml: `concepts.start_layers` names layer 2, but the last of model 'small' is 1",
    ),
    "fewer concepts than an item needs": (
        study(lambda s: s["lexicon"].update(limit=5)),
        r"lexicon.tsv: 5 usable concepts, but an item needs 6 \(.*\); use a larger lexicon, raise",
    ),
    "fewer concepts than the limit": (
        study(lambda s: s["lexicon"].update(limit=20)),
        r"lexicon.tsv: 16 usable concepts, but `lexicon.limit` asks for 20 \(.*\); lower it",
    ),
    "fewer usable concept pairs than asked for": (
        same_first_token,
        r"`concepts.items`: 60 concept pairs asked for, but only 58 can be drawn from 16 concepts "
        r"\(182 of 240 ordered pairs left out, since their answers begin with the same token\)",
    ),
    "no folder of a checkpoint": (
        lambda folder: shutil.rmtree(folder / "weights" / "late"),
        r"weights/late: no such folder, but .*sheet.tsv names it for checkpoint 'late'; put the",
    ),
    "no weights": (
        lambda folder: (folder / "weights" / "late" / "model.safetensors").unlink(),
        r"weights/late: no model.safetensors.index.json and no model.safetensors; only safetensors",
    ),
    "truncated weights": (
        truncated,
        r"weights/late/model.safetensors: truncated or damaged \(.*\); download or write it again$",
    ),
    "missing part of the weights": (
        missing_shard,
        r"model-00002-of-00002.safetensors: missing, though the index names it; download it again$",
    ),
    "pickled weights": (
        pickled,
        r"weights/late: weights are pickles \(pytorch_model.bin\), .* convert them to safetensors",
    ),
    "another tokenizer": (
        other_tokenizer,
        r"weights/late: checkpoint 'late' has another tokenizer than 'early' .*; give it another "
        r"model name in the sheet, or name one",
    ),
    "unreachable Hub": (
        text("sheet.tsv", "./weights/late", "someone/model"),
        r"someone/model: offline, and .* has no weights of this revision; fetch it once where",
    ),
}


def test_the_study_is_good_before_it_is_broken(study_folder: Path) -> None:
    run_to_prompts(study_folder)


@pytest.mark.parametrize("mistake", CATALOGUE)
def test_catalogue(mistake: str, study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    break_, expected = CATALOGUE[mistake]
    break_(study_folder)
    with pytest.raises(StudyError, match=expected) as caught:
        run_to_prompts(study_folder)
    assert "\n" not in str(caught.value)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**20),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["all", "en", "pretrain:small", "~nobody/x", "../x", "\0", "a/b", "é" * 300]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated_studies(draw: st.DrawFn) -> str:
    """The study with up to two places replaced, removed or added to."""
    content = yaml.safe_load(STUDY)
    for _ in range(draw(st.integers(0, 2))):
        *way, last = draw(st.sampled_from(places(content)))
        holder = content
        for key in way:
            holder = holder[key]
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace":
            holder[last] = draw(VALUES)
        elif action == "remove":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(SCALARS)] = draw(VALUES)
        if not places(content):
            break
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)


@st.composite
def mutated_texts(draw: st.DrawFn, good: str) -> bytes:
    """A text with some bytes cut out and others put in their place."""
    content = good.encode()
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = start + draw(st.integers(0, 20))
        new = draw(st.binary(max_size=6) | st.sampled_from([b"\t", b"\n", b'"', b"\t-1\t", b"|"]))
        content = content[:start] + new + content[end:]
    return content


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    study_text=mutated_studies(),
    sheet=mutated_texts(SHEET),
    lexicon=mutated_texts(tiny_lexicon()),
    broken=st.sampled_from(["study", "sheet", "lexicon"]),
)
def test_random_mistakes_are_mistakes_of_the_study(
    tmp_path: Path, study_text: str, sheet: bytes, lexicon: bytes, broken: str
) -> None:
    """Whatever stands in the files, reading and checking passes or raises StudyError."""
    write_tiny_study(tmp_path)
    if broken == "study":
        (tmp_path / "study.yaml").write_text(study_text, encoding="utf-8")
    elif broken == "sheet":
        (tmp_path / "sheet.tsv").write_bytes(sheet)
    else:
        (tmp_path / "lexicon.tsv").write_bytes(lexicon)
    try:
        loaded = load_study(tmp_path / "study.yaml")
        preflight.check(loaded)
        preflight.absent(loaded, tmp_path / "results")
    except StudyError as error:
        assert "\n" not in str(error)
