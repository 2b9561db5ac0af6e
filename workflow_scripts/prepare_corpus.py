"""Tokenise a corpus: contexts of token ids with their documents and languages, in two splits.

Beside the manifest stand the shards of both splits and the vocabulary. What the languages lack, a
budget or a file, is said before anything is written. The commit that a branch of a dataset on the
Hub stood for at first is kept in `revisions/` of the results, and taken again.
"""

from pathlib import Path
from typing import Any

from glossogenesis.corpora.contexts import CorpusTokenizer
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.corpora.preparation import CorpusPlan, prepare_corpus
from glossogenesis.corpora.sources import CorpusText, GeneratedText, HubText, LocalText, local_paths
from glossogenesis.hub.files import revision_file
from glossogenesis.models.loading import load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.weight_files import ModelLimits, read_config
from glossogenesis.storage.files import claimed
from glossogenesis.study.inputs import (
    WORDS_OF_MODES,
    CorpusDemo,
    CorpusFiles,
    CorpusSettings,
    HubSettings,
)
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the tokenised corpus of one tokenizer."""
    arguments = program_arguments(
        __doc__,
        lexicon={"nargs": "?", "default": None, "help": "words that demo text is made of"},
        checkpoint={"help": "manifest of a checkpoint with the tokenizer"},
        hub={"type": str, "choices": WORDS_OF_MODES, "default": HubSettings().mode},
        output={"help": "manifest.json; shards are written beside it"},
    )
    settings = arguments.settings
    corpus = CorpusSettings.model_validate(settings["corpus"])
    offline = HubSettings.of_mode(arguments.hub).offline
    text = text_of_corpus(corpus, settings, arguments.lexicon, arguments.output, offline=offline)
    manifest = CheckpointManifest.read(arguments.checkpoint, weights=False)
    tokenizer = CorpusTokenizer.of(
        load_tokenizer(manifest.tokenizer_location),
        manifest.tokenizer_digest,
        manifest.tokenizer_folder,
    )
    if (config := Path(manifest.folder) / "config.json").is_file():
        limits = ModelLimits.of(read_config(config.parent))
        fix = f"lower `corpora.{settings['name']}.context`"
        if line := limits.longer(corpus.context, "contexts", str(config), fix):
            print(f"Warning: {line}")
    inputs = local_paths(text) | ({"lexicon": arguments.lexicon} if arguments.lexicon else {})
    provenance = provenance_of(
        arguments,
        "corpus",
        inputs,
        revision=text.revision,
        seed=corpus.seed,
        facts={"tokenizer_digest": tokenizer.digest},
    )
    plan = CorpusPlan(
        settings["name"], corpus, settings["languages"], settings["add_special_tokens"]
    )
    written = prepare_corpus(plan, text, tokenizer, arguments.output.parent, provenance)
    for language, rows in getattr(text, "skipped", {}).items():
        if str(rows):
            print(f"{language}: skipped {rows}")
    for split, facts in written.splits.items():
        counts = ", ".join(f"{language} {count:,}" for language, count in facts.tokens.items())
        print(f"{split}: {facts.contexts:,} contexts of {facts.documents:,} documents ({counts})")


def text_of_corpus(
    corpus: CorpusSettings,
    settings: dict[str, Any],
    lexicon: Path | None,
    output: Path,
    *,
    offline: bool,
) -> CorpusText:
    """Return the text that a corpus' settings ask for.

    `output` is the manifest, in the results that keep the commit of a dataset on the Hub;
    `offline`: nothing is downloaded.
    """
    if isinstance(corpus.text, CorpusFiles):
        return LocalText(corpus.text)
    if isinstance(corpus.text, CorpusDemo):
        assert lexicon is not None, "demo text needs --lexicon"
        concepts = read_lexicon(lexicon, **settings["lexicon"]).concepts
        return GeneratedText(corpus.text, concepts, settings["endonyms"], corpus.seed)
    record = revision_file(output.parents[3], settings["name"])
    # The same corpus may be prepared for another tokenizer now, and is to be of the same commit.
    with claimed(record):
        return HubText.find(corpus.text, offline=offline, record=record)


if __name__ == "__main__":
    run_program(main)
