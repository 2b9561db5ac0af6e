"""The program, from a classifier and its autoencoders to the table of survival."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

import measure_variants
from glossogenesis.corpora.posts import span_of
from glossogenesis.exceptions import StudyError
from glossogenesis.models.manifest import CLASSIFIER_SOURCE
from glossogenesis.robustness.spellings import SURVIVAL_SCHEMA
from glossogenesis.sae.files import SaeFacts, read_sae, write_sae
from glossogenesis.storage import tables
from glossogenesis.storage.provenance import Provenance
from support.program_runs import run_main
from support.tiny_checkpoint import write_manifest
from support.tiny_classifiers import tiny_classifier
from support.tiny_models import D_MODEL
from support.tiny_saes import random_sae
from support.tiny_tokenizers import byte_level

LAYERS = (1, 3)
KS = (2, 5)
CARRIER = "「{variant}」という。"
SPELLINGS = [
    ("egg", "kanji", "卵", "赤い卵だ。"),
    ("egg", "hiragana", "たまご", "たまごを買う。"),
    ("egg", "borrowed", "エッグ", "今日のエッグは高い。"),
    ("dog", "kanji", "犬", "白い犬がいる。"),
    ("dog", "hiragana", "いぬ", "いぬと走る。"),
]


class Study:
    """A tiny classifier with an autoencoder a layer, and a table of spellings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tiny_classifier("llama", vocab_size=300).model.save_pretrained(folder / "weights")
        trained = byte_level([sentence for *_, sentence in SPELLINGS], size=300)
        PreTrainedTokenizerFast(tokenizer_object=trained).save_pretrained(folder / "weights")
        self.manifest = write_manifest(
            folder / "classifier.json", folder / "weights", source=CLASSIFIER_SOURCE
        )
        for layer in LAYERS:
            self.write_sae(layer)
        self.write_spellings(SPELLINGS)

    def write_sae(self, layer: int, model: str = "tiny") -> None:
        facts = SaeFacts(f"model.layers.{layer}", "weights", None, 8, "posts")
        write_sae(
            self.folder / "saes" / f"layer_{layer}" / "l1",
            random_sae(D_MODEL, 64, architecture="relu", normalise="none", seed=layer),
            facts,
            Provenance("sae", "test", {}, {}, "0", model=model, checkpoint="step1", layer=layer),
        )

    def write_spellings(self, rows: list[tuple[str, ...]]) -> None:
        lines = ["concept\tkind\tvariant\tsentence", *("\t".join(row) for row in rows)]
        (self.folder / "spellings.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def measure(
        self,
        name: str,
        *,
        carrier: str | None = CARRIER,
        span: str = "spelling",
        **options: Any,
    ) -> Path:
        settings = {
            "layers": list(LAYERS),
            "variants": {"carrier": carrier, "ks": list(KS), "span": span},
            "add_special_tokens": True,
            "sae": "l1",
            "dtype": "float32",
            "seed": 0,
        }
        output = self.folder / f"{name}.parquet"
        given = {
            "classifier": self.folder / "classifier.json",
            "saes": self.folder / "saes",
            "variants": self.folder / "spellings.tsv",
            "batch_size": 2,
            "output": output,
        }
        run_main(measure_variants, settings, **given | options)
        return output

    def strongest(self, layer: int, text: str, variant: str) -> list[int]:
        """Features by activation: the whole text through the model, and the encoder written out."""
        model = AutoModelForSequenceClassification.from_pretrained(self.folder / "weights")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(self.folder / "weights")
        encoded = tokenizer(text, return_offsets_mapping=True)
        first, end = span_of(text, variant)
        tokens = [
            number
            for number, (start, stop) in enumerate(encoded["offset_mapping"])
            if start < end and stop > first
        ]
        with torch.inference_mode():
            hooked = []
            hook = model.model.layers[layer].register_forward_hook(
                lambda module, inputs, output: hooked.append(
                    output if isinstance(output, torch.Tensor) else output[0]
                )
            )
            model.model(torch.tensor([encoded["input_ids"]]))
            hook.remove()
            states = hooked[0][0, tokens]
            sae = read_sae(self.folder / "saes" / f"layer_{layer}" / "l1")
            latents = (states - sae.b_dec) @ sae.w_enc.T + sae.b_enc
            maxima = latents.amax(dim=0)
        order = maxima.argsort(descending=True).tolist()
        return [feature for feature in order if maxima[feature] > 0]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_rows_are_those_of_the_model_run_text_by_text(study: Study) -> None:
    output = study.measure("survival")
    table = tables.read_table(output)
    assert table.schema == SURVIVAL_SCHEMA
    assert table.height == len(LAYERS) * 2 * len(KS) * (6 + 2)
    for layer in LAYERS:
        for arm in ("sentence", "carrier"):
            texts = {
                variant: sentence if arm == "sentence" else CARRIER.format(variant=variant)
                for _, _, variant, sentence in SPELLINGS
            }
            found = {
                variant: study.strongest(layer, text, variant) for variant, text in texts.items()
            }
            n_active = len(set().union(*found.values()))
            for k in KS:
                rows = table.filter(layer=layer, arm=arm, k=k)
                assert set(rows["n_active"]) == {n_active}
                assert set(rows["chance"]) == {(n_active - k) / n_active}
                for first, second in permutations(("卵", "たまご", "エッグ"), 2):
                    shared = set(found[first][:k]) & set(found[second][:k])
                    (row,) = rows.filter(first=first, second=second).to_dicts()
                    assert row["survival"] == (k - len(shared)) / k
                    assert row["concept"] == "egg"
    origin = tables.read_provenance(output)
    assert (origin.model, origin.checkpoint, origin.kind) == ("tiny", "step1", "spelling_variants")
    assert set(origin.inputs) == {"classifier", "variants", "layer_1", "layer_3"}
    assert origin.facts["spellings"] == 5 and origin.facts["concepts"] == 2
    assert set(origin.facts["l0"]) == {"sentence", "carrier"}


def test_equal_runs_give_equal_bytes_and_a_carrier_is_optional(study: Study) -> None:
    assert study.measure("a").read_bytes() == study.measure("b").read_bytes()
    table = tables.read_table(study.measure("c", carrier=None))
    assert set(table["arm"]) == {"sentence"}
    both = tables.read_table(study.folder / "a.parquet")
    assert table.equals(both.filter(arm="sentence"))


def test_a_spelling_may_be_measured_over_its_sentence(study: Study) -> None:
    table = tables.read_table(study.measure("sentences", carrier=None, span="sentence"))
    sentences = {variant: sentence for _, _, variant, sentence in SPELLINGS}
    for layer in LAYERS:
        found = {
            variant: study.strongest(layer, sentence, sentence)
            for variant, sentence in sentences.items()
        }
        for first, second in permutations(("卵", "たまご", "エッグ"), 2):
            (row,) = table.filter(layer=layer, k=5, first=first, second=second).to_dicts()
            assert row["shared"] == len(set(found[first][:5]) & set(found[second][:5]))


def test_what_does_not_fit_is_refused(study: Study) -> None:
    study.write_sae(3, model="other")
    with pytest.raises(StudyError, match="an autoencoder of model 'other', but model 'tiny'"):
        study.measure("survival")
    study.write_sae(3)
    with pytest.raises(StudyError, match="concept 'egg', spelling '卵': '卵' stands 2 times"):
        study.measure("survival", carrier="卵と{variant}")
    assert not (study.folder / "survival.parquet").exists()
