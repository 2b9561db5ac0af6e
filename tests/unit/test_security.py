"""What a study from somebody else cannot do: leave its folders, run code, or inject a command.

docs/security.md says which test stands for which promise.
"""

from __future__ import annotations

import ast
import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from glossogenesis.config.posts import PostFiles
from glossogenesis.config.robustness import ClassifierSettings
from glossogenesis.config.sheet import read_sheet
from glossogenesis.config.study import load_study
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.corpora.post_files import read_post_file
from glossogenesis.corpora.posts import read_posts
from glossogenesis.corpora.spellings import read_spellings
from glossogenesis.corpora.text_files import texts_in
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.errors import StudyError
from glossogenesis.inspection.page import inspect_path
from glossogenesis.models.classifier_training import Device, TrainedEpoch, finetune
from glossogenesis.models.files import CheckpointLocation, check_weights
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest, describe_checkpoint
from glossogenesis.provenance import SEAL_KEY
from glossogenesis.sae.files import read_sae
from glossogenesis.storage.activations.cache import ActivationCache, purge_shards
from glossogenesis.storage.resume import ResumeState
from glossogenesis.storage.tables import read_table
from glossogenesis.storage.tensors import read_tensors
from hostile_pickles import PICKLES
from separable_posts import save_tiny_model, separable_posts, tiny_fresh_classifier
from tiny_cache import write_tiny_caches
from tiny_checkpoint import save_tiny_checkpoint
from tiny_corpus import tiny_corpus
from tiny_features_study import tiny_features_study
from tiny_robustness_study import tiny_robustness_study
from tiny_study import SHEET, tiny_study

REPOSITORY = Path(__file__).parents[2]

OUTSIDE = (
    "../x",
    "/tmp/x",
    "..",
    ".",
    "a/b",
    "a\\b",
    "~x",
    "-x",
    "",
    "a b",
    "a\nb",
    "a\n",
    "x\0",
    "{model}",
    "<logs>",
    "a;b",
    "$(id)",
    "é",
    "x" * 300,
)
"""Names that would become other paths than one folder in `results/`, or more than a path."""


def assert_one_line(error: StudyError, *words: str) -> None:
    message = str(error)
    assert message.isprintable()
    for word in words:
        assert word in message


NAMED: dict[str, Callable[[dict[str, Any], str], object]] = {
    "study": lambda s, name: s.update(study=name),
    "models": lambda s, name: s["models"].update({name: {}}),
    "pretrain": lambda s, name: s["pretrain"].update({name: s["pretrain"]["small"]}),
    "corpora": lambda s, name: s["corpora"].update({name: s["corpora"]["text"]}),
    "features.saes": lambda s, name: s["features"]["saes"].update({name: {"k": 4}}),
    "features.corpus": lambda s, name: s["features"].update(corpus=name),
    "features.checkpoints": lambda s, name: s["features"].update(checkpoints={"local": [name]}),
    "languages": lambda s, name: s["languages"].update({name: s["languages"]["en"]}),
}


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("key", NAMED)
def test_names_in_a_study_are_names_of_one_folder(tmp_path: Path, key: str, name: str) -> None:
    with pytest.raises(StudyError) as caught:
        tiny_features_study(tmp_path, lambda s: NAMED[key](s, name))
    assert_one_line(caught.value, "study.yaml", key)


@pytest.mark.parametrize("name", OUTSIDE)
def test_autoencoders_of_the_robustness_study_are_names_too(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match=r"robustness.saes"):
        tiny_robustness_study(tmp_path, lambda s: s["robustness"].update(saes={name: {"k": 4}}))


def sheet_with(folder: Path, column: str, value: str) -> Path:
    """A sheet whose first row, a checkpoint on the Hub, has a value in a column."""
    rows = [line.split("\t") for line in SHEET.splitlines()[:2]]
    rows[1] = ["local", "early", "10", "", "1", "org/model", "main", "step10"]
    rows[1][rows[0].index(column)] = value
    path = folder / "sheet.tsv"
    path.write_bytes("\n".join("\t".join(row) for row in rows).encode("utf-8", "surrogatepass"))
    return path


@pytest.mark.parametrize("name", [name for name in OUTSIDE if name.strip() == name != ""])
@pytest.mark.parametrize("column", ["model", "checkpoint"])
def test_names_in_a_sheet_are_names_of_one_folder(tmp_path: Path, column: str, name: str) -> None:
    with pytest.raises(StudyError) as caught:
        read_sheet(sheet_with(tmp_path, column, name))
    assert_one_line(caught.value, "sheet.tsv")


@pytest.mark.parametrize(
    "subfolder",
    [
        "..",
        "../x",
        "a/../../x",
        "/etc",
        "~/x",
        "a//b",
        "a/.",
        "./a",
        "a\\..\\b",
        "C:/x",
        "a/",
        "x" * 300,
    ],
)
def test_a_subfolder_stays_within_its_source(tmp_path: Path, subfolder: str) -> None:
    with pytest.raises(StudyError, match=r"sheet.tsv, line 2: column 'subfolder'"):
        read_sheet(sheet_with(tmp_path, "subfolder", subfolder))


@pytest.mark.parametrize(
    "revision",
    [
        "../x",
        "a/../b",
        "/x",
        "-x",
        "a..b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[b",
        "a\\b",
        "a@{b",
        "a//b",
        "a.lock",
        "a/.b",
        "x/",
        "x.",
        ".x",
    ],
)
def test_a_revision_is_what_git_calls_one(tmp_path: Path, revision: str) -> None:
    with pytest.raises(StudyError, match=r"sheet.tsv, line 2: column 'revision'"):
        read_sheet(sheet_with(tmp_path, "revision", revision))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("subfolder", "step100"),
        ("subfolder", "checkpoints/step 100"),
        ("subfolder", "..x/é"),
        ("revision", "main"),
        ("revision", "refs/pr/1"),
        ("revision", "step1000-tokens2B"),
        ("revision", "v1.0+x"),
        ("revision", "0" * 40),
        ("source", "~/models/x"),
        ("source", '/data/it\'s $(here); "x"'),
        ("source", "../models/x"),
        ("source", "org/model"),
    ],
)
def test_what_users_write_is_allowed(tmp_path: Path, column: str, value: str) -> None:
    (row,) = read_sheet(sheet_with(tmp_path, column, value))
    assert getattr(row, column) == value


@pytest.mark.parametrize(
    "folder", ["", " ", "~/results", "{model}", "<logs>/x", "a\nb", "a\0b", "x" * 300]
)
def test_folders_of_outputs_are_where_they_are_written(tmp_path: Path, folder: str) -> None:
    with pytest.raises(StudyError, match=r"study.yaml: `pathvars.results`"):
        tiny_study(tmp_path, lambda s: s.update(pathvars={"results": folder}))


PATHS: dict[str, Callable[[dict[str, Any], str], object]] = {
    "checkpoints": lambda s, path: s.update(checkpoints=path),
    "lexicon.path": lambda s, path: s["lexicon"].update(path=path),
    "corpora.text.text": lambda s, path: s["corpora"]["text"]["text"]["files"].update(en=[path]),
}


@pytest.mark.parametrize(
    "path", ["", "a\nb", "a\0b", "{x}.tsv", "<results>/x", "a\x1b[2J", "x" * 300]
)
@pytest.mark.parametrize("key", PATHS)
def test_paths_hold_nothing_that_snakemake_or_a_terminal_acts_on(
    tmp_path: Path, key: str, path: str
) -> None:
    with pytest.raises(StudyError) as caught:
        tiny_features_study(tmp_path, lambda s: PATHS[key](s, path))
    assert_one_line(caught.value, "study.yaml", key)


LEADING_OUT = (
    "../outside",
    "/etc/passwd",
    "a/../../outside",
    "..",
    "",
    "a\\b",
    "a\nb",
    3,
    None,
    ["a"],
)


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file and take its seal off, as somebody would who means it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop(SEAL_KEY)
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def set_at(content: Any, way: tuple[Any, ...], value: Any) -> None:
    for key in way[:-1]:
        content = content[key]
    content[way[-1]] = value


@pytest.mark.parametrize("name", LEADING_OUT)
def test_purging_deletes_no_file_outside_its_folder(tmp_path: Path, name: Any) -> None:
    (cache,) = write_tiny_caches(tmp_path / "caches", 0)
    outside = cache.manifest.parents[1] / "outside"
    outside.write_text("keep me")
    change_json(cache.manifest, lambda c: set_at(c, ("splits", "train", "shards", 0, "file"), name))
    for act in (purge_shards, ActivationCache.open):
        with pytest.raises(StudyError) as caught:
            act(cache.manifest)
        assert_one_line(caught.value, "manifest.json")
    assert outside.read_text() == "keep me"
    assert len(list(cache.manifest.parent.glob("*.safetensors"))) == 5


@pytest.mark.parametrize("name", LEADING_OUT)
@pytest.mark.parametrize(
    "way", [("splits", "train", "shards", 0, "file"), ("vocabulary_file", "file")], ids=str
)
def test_a_corpus_reads_no_file_outside_its_folder(
    tmp_path: Path, way: tuple[Any, ...], name: Any
) -> None:
    tiny_corpus(tmp_path, train=3, held_out=2)
    change_json(tmp_path / "manifest.json", lambda content: set_at(content, way, name))
    with pytest.raises(StudyError) as caught:
        TokenisedCorpus.read(tmp_path / "manifest.json")
    assert_one_line(caught.value, "manifest.json")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def weights(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint folder that a test may change."""
    return Path(shutil.copytree(saved, tmp_path / "weights"))


@pytest.mark.parametrize("name", [name for name in LEADING_OUT if isinstance(name, str)])
def test_a_checkpoint_manifest_names_weights_of_its_folder(weights: Path, name: str) -> None:
    manifest = weights.with_name("manifest.json")
    describe_checkpoint(
        CheckpointLocation(str(weights)), model="m", checkpoint="c", source="s", provenance={}
    ).write(manifest)
    facts = {"bytes": 1, "sha256": "0"}
    change_json(manifest, lambda content: content.update(weights={name: facts}))
    with pytest.raises(StudyError, match=r"manifest.json: not a checkpoint manifest"):
        CheckpointManifest.read(manifest)


@pytest.mark.parametrize("name", LEADING_OUT)
def test_an_index_of_weights_names_files_of_its_folder(weights: Path, name: Any) -> None:
    save_file({"weight": torch.ones(1)}, weights.with_name("outside"))
    index = {"weight_map": {"weight": name}}
    (weights / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(StudyError, match=r"index.json: no readable weight_map"):
        check_weights(weights)


# No pickle is opened.


def test_the_traps_close_when_they_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests below can fail: these pickles do leave their mark."""
    # What loads COMET sets it for its process.
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    plain, zipped = (pickled(tmp_path / "mark") for pickled in PICKLES)
    pickle.loads(plain)
    assert (tmp_path / "mark").exists()
    (tmp_path / "mark").unlink()
    (tmp_path / "x.pt").write_bytes(zipped)
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert (tmp_path / "mark").exists()


def load(folder: Path) -> None:
    location = CheckpointLocation(str(folder))
    describe_checkpoint(location, model="m", checkpoint="c", source="s", provenance={})
    load_tokenizer(location)
    load_model(location, device="cpu")


def tried(use: Callable[[Path], object], path: Path) -> str | None:
    """Use a file; return the line by which it was refused, None where it was not."""
    try:
        use(path)
    except StudyError as error:
        assert_one_line(error)
        return str(error)
    return None


@pytest.mark.parametrize("pickled", PICKLES)
@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "model.pkl",
        "optimizer.pt",
        "training_args.bin",
        "rng_state.pth",
        "scaler.pt",
        "adapter_model.bin",
        "tokenizer.pkl",
        "merges.txt",
        "x.npy",
    ],
)
def test_pickles_beside_good_weights_are_left_alone(
    weights: Path, tmp_path: Path, name: str, pickled: Callable[[Path], bytes]
) -> None:
    (weights / name).write_bytes(pickled(tmp_path / "mark"))
    assert tried(load, weights) is None
    assert tried(inspect_path, weights) is None
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("pickled", PICKLES)
@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "model.pth",
        "model.pkl",
        "model.ckpt",
        "model.bin",
        "model.safetensors",
        "model-00001-of-00001.safetensors",
    ],
)
def test_weights_that_are_pickles_are_refused(
    weights: Path, tmp_path: Path, name: str, pickled: Callable[[Path], bytes]
) -> None:
    (weights / "model.safetensors").unlink()
    (weights / name).write_bytes(pickled(tmp_path / "mark"))
    refused = tried(load, weights)
    assert refused is not None
    assert "weights" in refused
    tried(inspect_path, weights)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("pickled", PICKLES)
@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "tokenizer.model",
        "vocab.json",
        "model.safetensors.index.json",
        "chat_template.jinja",
    ],
)
@pytest.mark.parametrize("alone", [False, True], ids=["beside", "alone"])
def test_settings_and_tokenizers_that_are_pickles_are_not_opened(
    weights: Path, tmp_path: Path, name: str, pickled: Callable[[Path], bytes], alone: bool
) -> None:
    if alone:
        (weights / "tokenizer.json").unlink()
    (weights / name).write_bytes(pickled(tmp_path / "mark"))
    refused = tried(load, weights)
    tried(inspect_path, weights / name)
    assert not (tmp_path / "mark").exists()
    assert refused is not None or name not in ("config.json", "model.safetensors.index.json")


POSTS = PostFiles(kind="files", files=("posts",))
READERS: dict[str, Callable[[Path], object]] = {
    "text.jsonl": lambda path: list(texts_in(path)),
    "text.parquet": lambda path: list(texts_in(path)),
    "text.txt": lambda path: list(texts_in(path)),
    "posts.tsv": lambda path: read_post_file(path, POSTS),
    "posts.jsonl": lambda path: read_post_file(path, POSTS),
    "posts.parquet": lambda path: read_post_file(path, POSTS),
    "prepared.parquet": read_posts,
    "spellings.tsv": read_spellings,
    "sheet.tsv": read_sheet,
    "study.yaml": load_study,
    "lexicon.tsv": lambda path: read_lexicon(path, format="tsv", languages=["en"]),
    "lexicon.csv": lambda path: read_lexicon(path, format="multisimlex", languages=["en"]),
    "table.parquet": read_table,
    "tensors.safetensors": read_tensors,
    "manifest.json": CheckpointManifest.read,
    "corpus/manifest.json": TokenisedCorpus.read,
    "cache/manifest.json": ActivationCache.open,
    "sae/cfg.json": lambda path: read_sae(path.parent),
    "shown.csv": inspect_path,
    "shown.parquet": inspect_path,
    "shown.safetensors": inspect_path,
    "shown.json": inspect_path,
    "shown.pkl": inspect_path,
    "shown.pt": inspect_path,
}


@pytest.mark.parametrize("pickled", PICKLES)
@pytest.mark.parametrize("name", READERS)
def test_a_pickle_under_another_name_is_refused(
    tmp_path: Path, name: str, pickled: Callable[[Path], bytes]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickled(tmp_path / "mark"))
    refused = tried(READERS[name], path)
    assert not (tmp_path / "mark").exists()
    # As a table of numbers, any bytes can be shown.
    assert name == "shown.csv" or (refused is not None and path.name in refused)


@pytest.mark.parametrize("pickled", PICKLES)
def test_a_state_of_training_that_is_a_pickle_counts_as_none(
    tmp_path: Path, pickled: Callable[[Path], bytes]
) -> None:
    state = ResumeState(tmp_path, "0")
    state.path.parent.mkdir()
    state.path.write_bytes(pickled(tmp_path / "mark"))
    assert state.load() is None
    assert not (tmp_path / "mark").exists()


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize("pickled", PICKLES)
def test_a_state_of_fine_tuning_is_read_as_weights_alone(
    tmp_path: Path, pickled: Callable[[Path], bytes]
) -> None:
    """transformers' Trainer keeps its state in files of torch, and opens them without code."""
    posts = separable_posts(8)
    location = save_tiny_model(tmp_path / "model")

    def train(on_epoch: Callable[[TrainedEpoch], object]) -> None:
        finetune(
            tiny_fresh_classifier(location),
            posts,
            posts,
            ClassifierSettings(epochs=2, batch_size=8),
            device=Device("cpu", "float32", evaluation_batch=8),
            state_folder=tmp_path / "state",
            on_epoch=on_epoch,
        )

    def stop(epoch: TrainedEpoch) -> None:
        if epoch.epoch == 2:
            raise _StoppedError

    with suppress(_StoppedError):
        train(stop)
    kept = [
        path for suffix in ("pt", "pth", "bin") for path in tmp_path.rglob(f"state/**/*.{suffix}")
    ]
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth"} <= {path.name for path in kept}
    for path in kept:
        good = path.read_bytes()
        path.write_bytes(pickled(tmp_path / "mark"))
        # A damaged state may stop the job; it runs nothing.
        with suppress(Exception):
            train(stop)
        assert not (tmp_path / "mark").exists(), path.name
        path.write_bytes(good)


FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "jsonpickle",
    "imp",
    "runpy",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "load"),
    ("torch", "save"),
    ("torch", "hub"),
    ("torch", "package"),
    ("jit", "load"),
    ("np", "load"),
    ("numpy", "load"),
    ("pl", "deserialize"),
    ("pd", "read_pickle"),
    ("yaml", "load"),
    ("yaml", "load_all"),
    ("yaml", "full_load"),
    ("yaml", "unsafe_load"),
    ("yaml", "Loader"),
    ("yaml", "FullLoader"),
    ("yaml", "UnsafeLoader"),
    ("os", "system"),
    ("os", "popen"),
    ("importlib", "import_module"),
}
ALLOWED = {
    # `models.NAME.remote_code` of the study decides; see config/hub.py.
    ("models/loading.py", "trust_remote_code=has_code"),
    # A package that is there or not; its checkpoints are read as weights alone.
    ("patching/injection_comet.py", "importlib.import_module"),
}


def deeds(code: str) -> Iterator[str]:
    """Yield what some Python code does that could run code from a file, or a shell."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
            yield from (f"import {name}" for name in names if name in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in FORBIDDEN_MODULES:
                yield f"import {node.module}"
            for alias in node.names:
                if (node.module, alias.name) in FORBIDDEN_ATTRIBUTES:
                    yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Attribute):
            owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
            if (owner, node.attr) in FORBIDDEN_ATTRIBUTES:
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                yield f"{node.func.id}()"
            yield from _telling_keywords(node)


def _telling_keywords(call: ast.Call) -> Iterator[str]:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    for name in ("allow_pickle", "trust_remote_code", "shell"):
        if name in given and getattr(given[name], "value", None) is not False:
            yield f"{name}={ast.unparse(given[name])}"
    is_loaded = isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"
    if is_loaded and "trust_remote_code" not in given:
        yield "from_pretrained without trust_remote_code"


@pytest.mark.parametrize(
    ("code", "deed"),
    [
        ("import pickle", "import pickle"),
        ("from joblib import load", "import joblib"),
        ("import torch\ntorch.load('x')", "torch.load"),
        ("from torch import load", "torch.load"),
        ("yaml.load(x, yaml.SafeLoader)", "yaml.load"),
        ("eval('1')", "eval()"),
        ("np.load(x, allow_pickle=True)", "allow_pickle=True"),
        ("run(x, shell=True)", "shell=True"),
        ("Auto.from_pretrained(x)", "from_pretrained without trust_remote_code"),
        ("Auto.from_pretrained(x, trust_remote_code=True)", "trust_remote_code=True"),
    ],
)
def test_deeds_are_recognised(code: str, deed: str) -> None:
    assert deed in list(deeds(code))


def test_no_code_opens_a_pickle_or_runs_code_of_a_file() -> None:
    root = REPOSITORY / "workflow_scripts"
    files = sorted(root.rglob("*.py"))
    assert len(files) > 100
    found = {
        (path.relative_to(root).as_posix().removeprefix("glossogenesis/"), deed)
        for path in files
        for deed in deeds(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED


def test_rules_hold_no_such_code() -> None:
    words = r"\b(eval|exec|compile|pickle|torch\.load|yaml\.load|trust_remote_code|os\.system)\b"
    for path in [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "rules").glob("*.smk"))]:
        assert re.findall(words, path.read_text(encoding="utf-8")) == [], path.name


def test_no_code_touches_the_token() -> None:
    """The Hub's client finds the token itself, so that nothing else can pass it on."""
    for path in sorted((REPOSITORY / "workflow_scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = getattr(node, "id", getattr(node, "attr", None))
            assert named not in ("get_token", "HfFolder", "use_auth_token"), path
            assert getattr(node, "value", None) not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"), path
            # Elsewhere tokens are words.
            assert "hub" not in path.name or getattr(node, "arg", None) != "token", path


# No text of a user's becomes part of a command.

NOT_THE_USERS = {"threads", "resources.batch_size", "resources.device", "resources.hub"}
"""What a study decides, but only as a number or as one of a few words."""


def shell_texts() -> Iterator[tuple[str, str]]:
    """Yield the file and the text of every rule's command."""
    for path in sorted((REPOSITORY / "rules").glob("*.smk")):
        code = path.read_text(encoding="utf-8")
        for found in re.finditer(r"^ *shell:\n((?: +f?\"[^\n]*\"\n)+)", code, re.M):
            yield path.name, found[1]
        assert code.count("shell:") == len(re.findall(r"^ *shell:\n +\"", code, re.M)), path.name


def test_every_text_in_a_command_is_quoted() -> None:
    texts = list(shell_texts())
    assert len(texts) > 40
    unquoted = {
        (file, part)
        for file, text in texts
        for part in re.findall(r"\{([^}]*)\}", text)
        if not part.endswith(":q") and part not in NOT_THE_USERS | {"params.script"}
    }
    assert unquoted == set()


def test_the_path_of_a_script_is_quoted_where_it_is_made() -> None:
    code = (REPOSITORY / "rules" / "common.smk").read_text(encoding="utf-8")
    (body,) = re.findall(r"^def program\(name\):\n((?:    .*\n)+)", code, re.M)
    assert "quote(" in body
    assert "import shlex" in code or "from shlex import quote" in code


@pytest.mark.parametrize("value", ["cpu; id", "$(id)", 3, None])
def test_a_device_is_one_of_three_words(tmp_path: Path, value: Any) -> None:
    with pytest.raises(StudyError, match=r"models.local.device"):
        tiny_study(tmp_path, lambda s: s["models"]["local"].update(device=value))


@pytest.mark.parametrize("key", ["batch_size", "threads", "gpus"])
def test_numbers_in_a_command_are_numbers(tmp_path: Path, key: str) -> None:
    with pytest.raises(StudyError, match=f"models.local.{key}"):
        tiny_study(tmp_path, lambda s: s["models"]["local"].update({key: "1; id"}))
