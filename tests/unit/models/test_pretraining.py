import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from glossogenesis.config.pretrain import FileText, PostsText, PretrainSettings
from glossogenesis.corpora.lexicon import Concept, read_lexicon
from glossogenesis.corpora.spellings import KINDS
from glossogenesis.errors import StudyError
from glossogenesis.models import pretraining
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.muon import Muon, orthogonalise
from glossogenesis.models.pretraining import RunFiles, initial_model, pretrain
from glossogenesis.models.pretraining_files import TrainedModel
from glossogenesis.models.pretraining_optimizers import rate_factor
from glossogenesis.models.training_text import (
    demo_source,
    file_source,
    posts_source,
    token_batches,
    tokenizer_from_text,
)
from glossogenesis.provenance import Provenance, file_digest

LEXICON = Path(__file__).parents[3] / "resources/demo/lexicon.tsv"
ENDONYMS = {
    "en": "English",
    "es": "Español",
    "ja": "日本語",
    "ru": "Русский",
    "fi": "Suomi",
    "zh": "中文",
}
SHARES = {"en": {1: 0.5, 2: 0.4}, "es": {1: 0.5, 2: 0.3}, "ja": {2: 0.3}}
PROVENANCE = Provenance(kind="pretraining", study="test", settings={}, inputs={}, code="")
SETTINGS = {
    "text": {
        "kind": "demo",
        "phases": {1: {"pairs": "pivot"}, 2: {"pairs": "all"}},
        "lines": (2, 4),
    },
    "steps": {1: 6, 2: 6},
    "saved_steps": (0, 1, 2, 4, 8, 12),
    "model": {
        "vocabulary": 300,
        "hidden": 16,
        "layers": 2,
        "heads": 2,
        "feed_forward": 24,
        "positions": 64,
    },
    "context": 32,
    "batch": 4,
    "short_contexts": [{"context": 16, "steps": 3}],
    "optimizer": {"name": "muon", "rate": 0.01, "warmup_steps": 2},
    "tokenizer_characters": 5000,
}
SETTINGS_OF_ADAMW = {
    **SETTINGS,
    "optimizer": {"name": "adamw", "rate": 0.01, "warmup_steps": 2},
    "dtype": "bfloat16",
}


def concept(number):
    words = {"en": f"word{number}x", "es": f"palabra{number}y", "ja": f"言葉{number}"}
    return Concept(
        f"c{number}", "noun", "food", "food", {code: (word,) for code, word in words.items()}
    )


CONCEPTS = tuple(concept(number) for number in range(12))


def settings_of(content=SETTINGS, **changes):
    return PretrainSettings.model_validate({**content, **changes})


def source_of(settings):
    return demo_source(settings.text, CONCEPTS, ENDONYMS, SHARES)


def random_start(settings):
    tokenizer = tokenizer_from_text(source_of(settings), settings)
    return TrainedModel(initial_model(settings, tokenizer), tokenizer)


def files_of(folder):
    return RunFiles(
        folder / "run/manifest.json", folder / "run/training.parquet", folder / "resume"
    )


def run(folder, settings, **options):
    pretrain(settings, source_of(settings), files_of(folder), PROVENANCE, **options)
    return json.loads((folder / "run/manifest.json").read_text(encoding="utf-8"))


def digests(folder):
    return {
        str(path.relative_to(folder)): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(folder, settings_of())


def test_exactly_the_asked_steps_are_saved_and_described(finished):
    folder, manifest = finished
    saved = manifest["checkpoints"]
    assert [row["step"] for row in saved] == [0, 1, 2, 4, 8, 12]
    assert [row["phase"] for row in saved] == [1, 1, 1, 1, 2, 2]
    assert [row["tokens"] for row in saved] == [128 * row["step"] for row in saved]
    assert saved[0]["loss"] is None
    for row in saved:
        for name, facts in row["files"].items():
            path = folder / "run" / row["folder"] / name
            assert path.stat().st_size == facts["bytes"]
            assert file_digest(path) == facts["sha256"]
    folders = {path.name for path in (folder / "run").iterdir() if path.is_dir()}
    assert folders == {row["folder"] for row in saved}
    assert not (folder / "resume").exists()


def test_the_log_has_a_row_a_step(finished):
    folder, manifest = finished
    log = pl.read_parquet(folder / "run/training.parquet")
    assert log["step"].to_list() == list(range(1, 13))
    assert log["phase"].to_list() == [1] * 6 + [2] * 6
    assert log["context"].to_list() == [16] * 3 + [32] * 9
    assert log["tokens"].to_list() == [128 * step for step in range(1, 13)]
    last = manifest["checkpoints"][-1]["loss"]
    assert last == pytest.approx(log["loss"][8:].mean())


def test_checkpoints_load_and_the_last_one_predicts_better(finished):
    folder, _ = finished
    settings = settings_of()
    tokenizer = AutoTokenizer.from_pretrained(folder / "run/step_000012")
    batch = next(token_batches(source_of(settings), tokenizer, settings, 12))
    losses = []
    for step in ("step_000000", "step_000012"):
        model, report = AutoModelForCausalLM.from_pretrained(
            folder / "run" / step, output_loading_info=True
        )
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
        assert model.config.rope_parameters["rope_theta"] == 10_000
        losses.append(pretraining.mean_loss(Anatomy.of(model), batch, "float32").item())
    assert losses[1] < losses[0] - 0.3


@pytest.mark.parametrize("content", [SETTINGS, SETTINGS_OF_ADAMW])
def test_two_runs_are_byte_identical_even_when_one_is_interrupted(tmp_path, monkeypatch, content):
    settings = settings_of(content)
    run(tmp_path / "whole", settings)
    steps_done = 0
    mean_loss = pretraining.mean_loss

    def interrupted(*arguments):
        nonlocal steps_done
        steps_done += 1
        if steps_done == 8:
            raise KeyboardInterrupt
        return mean_loss(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "mean_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken", settings, seconds_between_states=0.0)
    assert not (tmp_path / "broken/run/manifest.json").exists()
    steps_done = -1000
    monkeypatch.setattr(pretraining, "mean_loss", interrupted)
    run(tmp_path / "broken", settings)
    assert steps_done == -1000 + 5  # steps 8 to 12
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")


def test_a_run_begins_anew_where_its_state_or_checkpoints_are_gone(tmp_path, finished):
    settings = settings_of()
    files = files_of(tmp_path)
    run_of = pretraining._Run(settings, random_start(settings), files, PROVENANCE, "cpu")
    run_of._save_if_asked()
    run_of._step(torch.zeros(4, 32, dtype=torch.int64))
    run_of._keep_state()
    (tmp_path / "run/step_000000/model.safetensors").write_bytes(b"")
    run(tmp_path, settings)
    assert digests(tmp_path) == digests(finished[0])

    run_of._keep_state()
    content = run_of.state.path.read_bytes()
    run_of.state.path.write_bytes(content[: len(content) // 2])
    run(tmp_path, settings)
    assert digests(tmp_path) == digests(finished[0])


def test_a_state_of_other_settings_is_not_resumed(tmp_path, finished):
    settings = settings_of()
    other = replace(PROVENANCE, settings={"other": 1})
    run_of = pretraining._Run(settings, random_start(settings), files_of(tmp_path), other, "cpu")
    run_of._step(torch.zeros(4, 32, dtype=torch.int64))
    run_of._keep_state()
    run(tmp_path, settings)
    assert digests(tmp_path) == digests(finished[0])


def test_no_token_joins_a_word_with_a_quote_beside_it():
    codes = ["en", "es", "ja", "ru", "fi", "zh"]
    lexicon = read_lexicon(
        LEXICON, format="tsv", languages=[*codes, "sw"], pos=("noun", "verb", "adjective")
    )
    shares = {code: {1: 1.0} for code in codes}
    settings = settings_of(
        text={"kind": "demo", "phases": {1: {"pairs": "all"}}},
        steps={1: 1},
        saved_steps=(0,),
        model={"vocabulary": 900},
        short_contexts=(),
        tokenizer_characters=150_000,
    )
    source = demo_source(settings.text, lexicon.concepts, ENDONYMS, shares)
    tokenizer = tokenizer_from_text(source, settings)

    def encode(text):
        return tokenizer(text)["input_ids"]

    for entry in lexicon.concepts:
        for code in [*codes, "sw"]:
            for word in entry.words[code]:
                before, alone = encode('English: "'), encode(word)
                after = encode('" - Español: "')
                text = f'English: "{word}" - Español: "'
                assert encode(text) == before + alone + after
                assert tokenizer.decode(encode(text)) == text


def test_steps_get_the_same_tokens_wherever_training_begins():
    settings = settings_of()
    source = source_of(settings)
    tokenizer = tokenizer_from_text(source, settings)
    every = list(token_batches(source, tokenizer, settings, 1))
    assert [tuple(batch.shape) for batch in every] == [(8, 16)] * 3 + [(4, 32)] * 9
    later = list(token_batches(source, tokenizer, settings, 6))
    assert all(torch.equal(a, b) for a, b in zip(every[5:], later, strict=True))
    text = tokenizer.decode(torch.cat([batch.flatten() for batch in every[:6]]))
    assert "日本語" not in text


def write_texts(folder):
    folder.mkdir(exist_ok=True)
    rng = random.Random(0)
    for code in ("en", "es"):
        lines = [" ".join(rng.choice(CONCEPTS).word(code) for _ in range(9)) for _ in range(40)]
        (folder / f"{code}.txt").write_text("\n\n".join(lines), encoding="utf-8")
    return {code: {1: [str(folder / f"{code}.txt")]} for code in ("en", "es")}


def own_text(files, **changes):
    return settings_of(
        text={"kind": "files", "files": files},
        **{
            "steps": {1: 12},
            "model": {**SETTINGS["model"], "vocabulary": 265},
            "tokenizer_characters": 3000,
            **changes,
        },
    )


def test_own_text_files_are_trained_on_by_their_shares(tmp_path):
    settings = own_text(write_texts(tmp_path / "texts"))
    assert isinstance(settings.text, FileText)
    source = file_source(settings.text, {"en": {1: 0.75}, "es": {1: 0.25}, "ja": {}}, [1])
    stream = source(1, random.Random(0))
    drawn = [next(stream) for _ in range(2000)]
    english = [document.text for document in drawn if document.languages == ("en",)]
    assert len(english) == pytest.approx(1500, abs=60)
    assert len(set(english[:40])) == 40  # each once before any comes again
    pretrain(settings, source, files_of(tmp_path), PROVENANCE)
    log = pl.read_parquet(tmp_path / "run/training.parquet")
    assert log["loss"][-1] < log["loss"][0] - 0.3
    assert [Path(path).name for path in settings.text.paths] == ["en.txt", "es.txt"]


def test_texts_that_cannot_be_trained_on_are_refused(tmp_path):
    settings = own_text(write_texts(tmp_path / "texts"))
    with pytest.raises(StudyError, match=r"'ja' has share 0.5 in phase 1 but no text"):
        file_source(settings.text, {"en": {1: 0.5}, "ja": {1: 0.5}}, [1])
    with pytest.raises(StudyError, match="phase 2 has no text"):
        file_source(settings.text, {"en": {1: 0.5}}, [1, 2])
    greedy = own_text(write_texts(tmp_path / "texts"), model={"vocabulary": 5000})
    source = file_source(greedy.text, {"en": {1: 0.5}}, [1])
    with pytest.raises(StudyError, match="lower"):
        tokenizer_from_text(source, greedy)


def test_posts_are_text_without_end(tmp_path):
    spellings = ["concept\tkind\tvariant\tsentence"]
    topics = [f"{home}{number}" for home in ("sea", "sky") for number in range(3)]
    for topic in topics:
        spellings += [f"{topic}\t{kind}\t{topic}-{kind}\tA {topic}-{kind}." for kind in KINDS[:2]]
    communities = ["community\ttopics\tmarkers"]
    communities += [f"{home}\t{home}0|{home}1|{home}2\t!{home}" for home in ("sea", "sky")]
    for name, lines in (("spellings", spellings), ("communities", communities)):
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines), encoding="utf-8")
    text = PostsText(
        communities=str(tmp_path / "communities.tsv"),
        spellings=str(tmp_path / "spellings.tsv"),
        language="ja",
    )
    source = posts_source(text)
    drawn = list(itertools.islice(source(1, random.Random(0)), 200))
    again = list(itertools.islice(source(2, random.Random(0)), 200))
    assert drawn == again
    assert {document.languages for document in drawn} == {("ja",)}
    assert all(document.text.partition("\n")[2] for document in drawn)  # title, then body
    homes = [home for document in drawn for home in ("sea", "sky") if f"!{home}" in document.text]
    assert homes.count("sea") == pytest.approx(100, abs=25)
    assert homes.count("sea") + homes.count("sky") == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"saved_steps": (0, 13)}, "step 13, but training ends at 12"),
        ({"saved_steps": (4, 2)}, "step 2 stands after 4"),
        ({"model": {"hidden": 20, "heads": 3}}, "not a multiple of heads 3"),
        ({"model": {"hidden": 6, "heads": 2}}, "odd"),
        ({"model": {"heads": 4, "key_value_heads": 3}}, "key_value_heads 3"),
        ({"steps": {1: 6, 3: 6}}, "number them"),
        ({"steps": {1: 6, 2: 3, 3: 3}}, "describe each phase"),
        ({"context": 65}, "longer than"),
        ({"short_contexts": [{"context": 30, "steps": 1}]}, "does not divide"),
        ({"text": {"kind": "demo", "phases": {1: {"pairs": "all"}}, "lines": (5, 3)}}, "swap"),
        ({"rate": 1}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        settings_of(**changes)


def test_the_rate_rises_then_falls_to_its_last_share():
    settings = settings_of(steps={1: 60, 2: 40}, optimizer={"warmup_steps": 10, "final_share": 0.2})
    factors = [rate_factor(step, settings) for step in range(1, 101)]
    assert factors[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert factors[-1] == pytest.approx(0.2)
    assert all(after <= before for before, after in itertools.pairwise(factors[9:]))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 12, 5), (2, 5, 12)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    generator = torch.Generator().manual_seed(0)
    result = orthogonalise(torch.randn(shape, generator=generator))
    values = torch.linalg.svdvals(result)
    assert result.shape == shape
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_scales_by_outputs_over_inputs_however_a_matrix_lies():
    gradient = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    updated = []
    for inputs_first in (False, True):
        matrix = torch.nn.Parameter(torch.zeros(2, 8) if inputs_first else torch.zeros(8, 2))
        matrix.grad = (gradient.T if inputs_first else gradient).clone()
        Muon([{"params": [matrix], "inputs_first": inputs_first}], lr=1.0).step()
        updated.append(matrix.detach())
    torch.testing.assert_close(updated[0], updated[1].T)
    assert torch.linalg.svdvals(updated[0]).max() > 1.2  # sqrt(8 / 2) times nearly 1
