"""A study of checkpoints on the Hub: fetched, used, removed, and never fetched without need."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from glossogenesis.hub.files import moved
from support.hub_server import HubServer, hub_server
from support.tiny_models import tiny_model
from support.tiny_study import tiny_lexicon
from support.tiny_tokenizers import byte_level
from support.working_tree import REPOSITORY, WorkingTree, copy_of_repository

pytestmark = pytest.mark.slow

NAME = "someone/gated-model"
TOKEN = "hf_itIsASecretThatNobodyMayRead"
STUDY = """\
study: hub
checkpoints: hub.tsv
lexicon: {path: hub_lexicon.tsv}
languages:
  en: {endonym: English, script: Latin, group: pivot}
  es: {endonym: Español, script: Latin, group: seen}
  fi: {endonym: Suomi, script: Latin, group: seen}
models:
  tiny: {parameters: 1.0e+5, n_layers: 4, gpus: 0, threads: 1}
hub: {keep_downloads: false}
concepts:
  items: 4
  few_shot: 2
  settings: [copy]
  target_pairs: [[es, en]]
  unpatched_pairs: [[en, en]]
"""
HEADER = "model\tcheckpoint\tstep\ttokens\tphase\tsource\trevision\tsubfolder\n"
ROW = f"tiny\tlate\t2\t\t1\t{NAME}\tstep2\tmodel\n"
ADDED = f"tiny\tadded\t3\t\t1\t{NAME}\t\t\n"

LATE = ("tiny", "late")
REMOVED = "results/checkpoints/tiny/late/removed.json"

ALL_PARTS = """\
corpora:
  text:
    text: {kind: hub, dataset: some/text, files: {en: "*", es: "*"}}
    train_tokens: 1000
    held_out_tokens: 1000
features:
  corpus: text
  language: {by: document}
  activations: {mode: stream, window: 1024}
  saes: {topk: {latents: 32, k: 4, batch_size: 64}}
  injection: {layers: [0], targets: [late]}
robustness:
  models: {tiny: late}
  posts:
    text: {kind: files, files: [posts.jsonl]}
    language: en
  classifier: {epochs: 1, learning_rate: 0.01, batch_size: 8}
  saes: {l1: {preset: fukasawa2026}}
"""
READERS_OF_TOKENIZERS = {"write_prompts", "prepare_corpus", "tokenise_posts"}


@dataclass(frozen=True)
class HubStudy:
    tree: WorkingTree
    hub: HubServer


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStudy]:
    """The study, run until its downloads are removed."""
    root = tmp_path_factory.mktemp("hub")
    with hub_server() as hub, pytest.MonkeyPatch.context() as environment:
        publish(hub, save_checkpoint(root / "checkpoint"))
        for name, value in {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(root / "home"),
            "HF_TOKEN": TOKEN,
        }.items():
            environment.setenv(name, value)
        tree = study_in(root / "tree", ROW)
        tree.snakemake("--cores", "2", "--show-failed-logs", REMOVED)
        yield HubStudy(tree, hub)


def study_in(root: Path, *rows: str) -> WorkingTree:
    # huggingface_hub reads its address in the environment where it is imported.
    tree = WorkingTree(copy_of_repository(root).root, "hub.yaml", warm=False)
    (tree.root / "hub.yaml").write_text(STUDY, encoding="utf-8")
    (tree.root / "hub_lexicon.tsv").write_text(tiny_lexicon(), encoding="utf-8")
    write_sheet(tree, *rows)
    return tree


def save_checkpoint(folder: Path) -> Path:
    tokenizer = byte_level(tiny_lexicon().splitlines())
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    model = tiny_model("llama", vocab_size=len(wrapped), max_position_embeddings=512)
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


def publish(hub: HubServer, folder: Path) -> None:
    hub.token = TOKEN
    repository = hub.repository(NAME)
    repository.gated = True
    repository.commit_folder(folder)
    repository.commit_folder(folder, "step2", "model/")
    # The first connection is lost, then the Hub is overloaded for a moment.
    hub.faults.drop_after["model/model.safetensors"] = [5000]
    hub.faults.status["model/tokenizer.json"] = [503]


def write_sheet(tree: WorkingTree, *rows: str) -> None:
    (tree.root / "hub.tsv").write_text("".join([HEADER, *rows]), encoding="utf-8")


def weights_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.safetensors"))


def test_downloads_are_removed_and_recorded(fetched: HubStudy) -> None:
    downloads = fetched.tree.root / "results" / "downloads"
    assert weights_in(downloads) == []
    assert (downloads / "tiny/late/model/tokenizer.json").is_file()
    record = json.loads((fetched.tree.root / REMOVED).read_text(encoding="utf-8"))
    repository = fetched.hub.repository(NAME)
    assert record["commit"] == repository.refs["step2"]
    weights = repository.commits[record["commit"]]["model/model.safetensors"]
    assert record["removed"] == {"model.safetensors": len(weights)}


def test_weights_are_removed_before_others_are_fetched(tmp_path: Path) -> None:
    rows = [
        f"tiny\t{name}\t{step}\t\t1\t{NAME}\tstep{step}\t\n" for step, name in enumerate("abcd")
    ]
    tree = study_in(tmp_path / "tree", *rows)
    # Every job is a stand-in: only the order in which they are started counts.
    program = str(REPOSITORY / "benchmarks" / "dag_stand_ins.py")
    command = [sys.executable, program, "--touch", "--forceall", "--no-hooks", "--cores", "1"]
    done = subprocess.run(
        [*command, "--configfile", tree.study],
        cwd=tree.root,
        env={**os.environ, "PYTHONPATH": str(tree.root / "workflow_scripts")},
        capture_output=True,
        text=True,
        check=True,
    )
    steps = re.findall(r"(Fetching|Removing the downloaded weights of) tiny \w", done.stderr)
    held = list(accumulate(1 if step == "Fetching" else -1 for step in steps))
    # One that is used, and the first, whose tokenizer the prompts wait for.
    assert max(held) <= 2
    assert held[-1] == 0


def test_a_finished_study_has_nothing_to_do_however_the_hub_is_used(fetched: HubStudy) -> None:
    off, on = "keep_downloads: false", "keep_downloads: false, offline: true"
    fetched.tree.edit("hub.yaml", off, on)
    assert fetched.tree.planned(REMOVED) == {}
    fetched.tree.edit("hub.yaml", on, off)


def test_an_added_row_costs_itself_and_the_aggregates(fetched: HubStudy) -> None:
    write_sheet(fetched.tree, ROW, ADDED)
    planned = fetched.tree.planned()
    write_sheet(fetched.tree, ROW)
    own = ["fetch_checkpoint", "extract_states", "patch_translations", "remove_download"]
    aggregates = {rule for rule in planned if rule.startswith(("tabulate_", "plot_"))}
    assert planned == dict.fromkeys([*own, *aggregates], 1)


def test_the_token_is_in_no_file(fetched: HubStudy) -> None:
    searched = [path for path in fetched.tree.root.parent.rglob("*") if path.is_file()]
    assert any(".snakemake/metadata" in str(path) for path in searched)
    assert any(path.suffix == ".log" for path in searched)
    assert [path for path in searched if TOKEN.encode() in path.read_bytes()] == []


def test_a_job_that_needs_removed_weights_fetches_them_and_no_more(fetched: HubStudy) -> None:
    fetched.hub.requests.clear()
    states = "results/concepts/tiny/late/states.safetensors"
    before = (fetched.tree.root / states).read_bytes()
    fetched.tree.snakemake("--forcerun", "extract_states", "--cores", "1", states)
    assert (fetched.tree.root / states).read_bytes() == before
    assert fetched.hub.fetched() == {"model/model.safetensors": 1}


def test_a_branch_that_moved_is_reported_and_not_taken(fetched: HubStudy) -> None:
    manifest = "results/checkpoints/tiny/late/manifest.json"
    before = (fetched.tree.root / manifest).read_bytes()
    repository = fetched.hub.repository(NAME)
    first = repository.refs["step2"]
    later = repository.commit({"model/config.json": b"{}"}, "step2")
    fetched.tree.snakemake("--forcerun", "fetch_checkpoint", "--cores", "1", manifest)
    assert (fetched.tree.root / manifest).read_bytes() == before
    log = (fetched.tree.root / "logs/fetch_checkpoint/tiny/late.log").read_text("utf-8")
    line = f"{NAME}@step2 has moved from {first[:12]} to {later[:12]}"
    assert line in log
    assert [line in said for said in moved(fetched.tree.root / "results", [LATE])] == [True]


def test_a_damaged_record_of_revisions_is_said_at_the_end_of_a_run(fetched: HubStudy) -> None:
    record = fetched.tree.root / "results" / "revisions" / "tiny" / "late.json"
    before = record.read_bytes()
    record.write_bytes(b"{")
    prompts = "results/prompts/tiny/translation.parquet"
    printed = fetched.tree.snakemake("--forcerun", "write_prompts", "--cores", "1", prompts)
    record.write_bytes(before)
    assert "results/revisions/tiny/late.json: not valid JSON" in printed
    assert "Traceback" not in printed


def test_downloads_are_removed_after_everything_that_reads_weights(tmp_path: Path) -> None:
    tree = study_in(tmp_path / "tree", ROW, ADDED)
    (tree.root / "posts.jsonl").write_text("", encoding="utf-8")
    text = STUDY + ALL_PARTS
    (tree.root / "parts.yaml").write_text(text, encoding="utf-8")
    kept = text.replace("keep_downloads: false", "keep_downloads: true")
    (tree.root / "kept.yaml").write_text(kept, encoding="utf-8")
    edges = rule_graph(tree.snakemake("--rulegraph", "dot", study="parts.yaml"))
    readers = {rule for source, rule in edges if source == "fetch_checkpoint"}
    waited_for = {rule for rule, target in edges if target == "remove_download"}
    assert readers - READERS_OF_TOKENIZERS - {"remove_download"} == waited_for - {
        "fetch_checkpoint"
    }
    assert len(waited_for) >= 7
    # Nothing is made for the sake of the removal alone.
    without = rule_graph(tree.snakemake("--rulegraph", "dot", study="kept.yaml"))
    assert {edge for edge in edges if "remove_download" not in edge} == without


def rule_graph(dot: str) -> set[tuple[str, str]]:
    """Return which rule's outputs are whose inputs."""
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', dot, re.M))
    return {(names[a], names[b]) for a, b in re.findall(r"^\s*(\d+) -> (\d+)$", dot, re.M)}
