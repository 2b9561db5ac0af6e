"""Memory and speed of the statistics of features, for some tokens and ten times as many.

A random autoencoder describes its features from random held-out activations, whose corpus and cache
are written to a temporary folder first. Everything that `collect_features.py` does is measured: the
pass over the activations, the scan for examples, labels and monosemanticity, and the three tables.
Memory is the peak above what was in use before, so it holds neither the autoencoder nor torch.

    python benchmarks/feature_statistics.py --threads 2 --json results/feature_statistics.json
    python benchmarks/feature_statistics.py --quick
    python benchmarks/feature_statistics.py --device cuda --tokens 1000000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from glossogenesis.corpora.contexts import CorpusHeader, write_tokenised
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.features.collection import FeatureRules, collect_features, write_examples
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.storage.activations.cache import (
    ActivationCache,
    ActivationRows,
    CacheDescription,
)
from glossogenesis.storage.activations.writer import CacheWriter
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import write_table
from glossogenesis.study.features import LanguageRule, MonosemanticityRule, Sensitivity
from measurement import benchmark_parser, device_of, peak_memory, write_report

MORE = 10
LANGUAGES = ("en", "ja")
N_TOKEN_TYPES = 8000
N_DIRECTIONS = 8
ORIGIN = Provenance("benchmark", "benchmark", {}, {}, "")


@dataclass(frozen=True)
class Run:
    """The features of one autoencoder from some tokens; one row of the table."""

    tokens: int
    seconds: float
    cpu_seconds: float
    """Of all threads; unlike `seconds`, hardly moved by what else runs on the machine."""
    peak_megabytes: float
    bytes_a_latent: float
    examples: int

    @property
    def tokens_a_second(self) -> float:
        """Tokens a second, of the whole program."""
        return self.tokens / self.seconds


def main() -> None:
    """Run both sizes, print the table, write the JSON."""
    arguments = parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    # The first run loads libraries, which is not to count.
    runs = [collect(arguments, tokens) for tokens in (arguments.context, arguments.tokens)]
    runs = [runs[-1], collect(arguments, MORE * arguments.tokens)]
    ratio = runs[1].peak_megabytes / runs[0].peak_megabytes
    console = Console(width=120)
    console.print(table_of(runs, arguments))
    console.print(f"{MORE} times the tokens take {ratio:.2f} times the memory")
    write_report(
        arguments,
        runs=[asdict(run) | {"tokens_a_second": run.tokens_a_second} for run in runs],
        memory_ratio=ratio,
    )


def parse_arguments() -> argparse.Namespace:
    """The command line; `--quick` is a small dictionary."""
    parser = benchmark_parser(str(__doc__))
    parser.add_argument("--tokens", type=int, default=20_000, help="of the smaller run")
    parser.add_argument("--latents", type=int, default=32_768)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--window", type=int, default=8192, help="rows of a shard")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.latents, arguments.k, arguments.hidden = 4096, 16, 128
    return arguments


def collect(arguments: argparse.Namespace, tokens: int) -> Run:
    """Describe the features from about so many random tokens, and measure it."""
    sae = random_sae(arguments)
    embedding = torch.randn(N_TOKEN_TYPES, 64, generator=torch.Generator().manual_seed(1))
    rules = FeatureRules(
        LanguageRule(by="document"),
        MonosemanticityRule(),
        Sensitivity(threshold=(0.5, 0.9)),
        scripts={"en": "Latin", "ja": "Japanese"},
        seed=0,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = random_corpus(folder / "corpus", arguments, -(-tokens // arguments.context))
        cache = random_cache(folder / "cache", corpus, arguments)
        device = torch.device(arguments.device)
        with peak_memory(device) as peak:
            start, cpu_start = time.perf_counter(), time.process_time()
            found = collect_features(
                sae, cache, corpus, rules, lambda name: embedding, scratch=folder / "scratch"
            )
            write_examples(folder / "examples.parquet", found.example_parts(), ORIGIN)
            write_table(folder / "statistics.parquet", found.statistics, ORIGIN)
            seconds = time.perf_counter() - start
            cpu_seconds = time.process_time() - cpu_start
    return Run(
        tokens=int(found.firings.counts.tokens.sum()),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        peak_megabytes=peak[0],
        bytes_a_latent=found.firings.bytes_a_latent,
        examples=int(found.statistics["examples"].sum()),
    )


def random_sae(arguments: argparse.Namespace) -> SparseAutoencoder:
    """A TopK autoencoder with random unit directions and tied weights."""
    generator = torch.Generator().manual_seed(0)
    sae = SparseAutoencoder(arguments.hidden, arguments.latents, "topk", k=arguments.k)
    weights = torch.randn(arguments.latents, arguments.hidden, generator=generator)
    with torch.no_grad():
        sae.w_dec.copy_(torch.nn.functional.normalize(weights, dim=1))
        sae.w_enc.copy_(sae.w_dec)
    return sae.to(arguments.device)


def random_corpus(folder: Path, arguments: argparse.Namespace, n_contexts: int) -> TokenisedCorpus:
    """Contexts of random tokens, a document each, the languages in turn."""
    shape = (n_contexts, arguments.context)
    generator = np.random.default_rng(0)
    token_ids = generator.zipf(1.3, shape) % N_TOKEN_TYPES
    documents = np.broadcast_to(np.arange(n_contexts)[:, None], shape)
    block = {
        "token_ids": token_ids,
        "documents": documents,
        "positions": np.broadcast_to(np.arange(arguments.context), shape),
        "languages": documents % len(LANGUAGES),
        "token_languages": token_ids % len(LANGUAGES),
        "kept": np.ones(shape, bool),
    }
    header = CorpusHeader(
        corpus="random",
        languages=LANGUAGES,
        known_by_script=LANGUAGES,
        context=arguments.context,
        fill="packed",
        drop_first=False,
        tokenizer_digest="",
        pad_id=0,
        end_id=None,
        sources={},
    )
    vocabulary = [f" word{number}".encode() for number in range(N_TOKEN_TYPES)]
    return write_tokenised(folder, header, {"train": [], "held_out": [block]}, vocabulary, ORIGIN)


def random_cache(
    folder: Path, corpus: TokenisedCorpus, arguments: argparse.Namespace
) -> ActivationCache:
    """Random activations of every token of a corpus, in shards of about `window` rows."""
    description = CacheDescription(
        model="random",
        checkpoint="random",
        corpus=corpus.corpus,
        layer=0,
        hook="model.layers.0",
        d_model=arguments.hidden,
        dtype="bfloat16",
        languages=corpus.languages,
        context=corpus.context,
        window=arguments.window,
        source="random",
        revision=None,
        tokenizer_digest=corpus.tokenizer_digest,
    )
    with CacheWriter(folder, {0: description}, {0: ORIGIN}) as writer:
        for number, rows in enumerate(random_shards(corpus, arguments)):
            writer.add("held_out", number, {0: rows}, 0)
        writer.finish()
    return ActivationCache.open(folder / "layer_0" / "manifest.json")


def random_shards(
    corpus: TokenisedCorpus, arguments: argparse.Namespace
) -> Iterator[ActivationRows]:
    """The rows of each shard; every token is a sum of some directions of `random_sae`.

    So a feature reaches much the same strength again and again, and has as many examples as tokens
    let it have.
    """
    generator = torch.Generator().manual_seed(0)
    directions = random_sae(arguments).w_dec.cpu()
    for block in corpus.blocks("held_out", max(1, arguments.window // corpus.context)):
        contexts, columns = (axis.flatten().int() for axis in _places(block.token_ids))
        shape = (block.token_ids.numel(), N_DIRECTIONS)
        chosen = torch.randint(0, arguments.latents, shape, generator=generator)
        strengths = 0.5 + 0.5 * torch.rand(shape, generator=generator)
        planted = torch.nn.functional.embedding_bag(
            chosen, directions, mode="sum", per_sample_weights=strengths
        )
        yield ActivationRows(
            activations=planted.bfloat16(),
            token_ids=block.token_ids.flatten(),
            documents=block.documents.flatten(),
            positions=block.positions.flatten(),
            contexts=contexts + block.first,
            columns=columns,
            languages=block.languages.flatten(),
            token_languages=block.token_languages.flatten(),
        )


def _places(token_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    contexts, columns = (torch.arange(size) for size in token_ids.shape)
    return tuple(torch.meshgrid(contexts, columns, indexing="ij"))


def table_of(runs: list[Run], arguments: argparse.Namespace) -> Table:
    """The measurements as a table."""
    table = Table(
        box=box.SIMPLE,
        title=f"{arguments.latents} latents, k {arguments.k}, hidden {arguments.hidden}, on "
        f"{device_of(arguments)}",
    )
    for heading in (
        "tokens",
        "seconds",
        "CPU seconds",
        "tokens/s",
        "peak MB",
        "bytes a latent",
        "examples",
    ):
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(
            f"{run.tokens:,}",
            f"{run.seconds:.1f}",
            f"{run.cpu_seconds:.1f}",
            f"{run.tokens_a_second:,.0f}",
            f"{run.peak_megabytes:.0f}",
            f"{run.bytes_a_latent:.3f}",
            f"{run.examples:,}",
        )
    return table


if __name__ == "__main__":
    main()
