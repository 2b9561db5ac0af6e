"""Tokenise posts: one post a context, cut at the end, in the two splits.

Beside the manifest stand the shards of both splits and the vocabulary.
"""

from glossogenesis.corpora.contexts import CorpusTokenizer
from glossogenesis.corpora.posts import read_posts
from glossogenesis.models.loading import load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.robustness.tokenised_posts import PostTokens, tokenise_posts
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the tokenised posts of one tokenizer."""
    arguments = program_arguments(
        __doc__,
        checkpoint={"help": "manifest of a checkpoint with the tokenizer"},
        posts={"help": "table of posts"},
        output={"help": "manifest.json; shards are written beside it"},
    )
    settings = arguments.settings
    posts = read_posts(arguments.posts)
    manifest = CheckpointManifest.read(arguments.checkpoint, weights=False)
    tokenizer = CorpusTokenizer.of(
        load_tokenizer(manifest.tokenizer_location),
        manifest.tokenizer_digest,
        manifest.tokenizer_folder,
    )
    written = tokenise_posts(
        posts,
        PostTokens(tokenizer, settings["max_tokens"], settings["add_special_tokens"]),
        settings["language"],
        arguments.output.parent,
        provenance_of(
            arguments,
            "tokenised_posts",
            {"posts": arguments.posts},
            facts={"tokenizer_digest": tokenizer.digest},
        ),
    )
    cut = written.sources[settings["language"]]["cut"]
    for split, facts in written.splits.items():
        tokens = sum(facts.tokens.values())
        print(
            f"{split}: {facts.contexts:,} posts of {tokens:,} tokens without special ones; "
            f"{cut[split]:,} cut to {settings['max_tokens']:,}"
        )
    print(f"longest: {written.context:,} tokens")


if __name__ == "__main__":
    run_program(main)
