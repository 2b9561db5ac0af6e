"""Prepare labelled posts: read or write them, remove ambiguous ones, and split them."""

from pathlib import Path

from glossogenesis.corpora.demo.posts import demo_posts, read_world
from glossogenesis.corpora.posts import LabelledPost
from glossogenesis.robustness.posts import prepare_posts, read_post_file
from glossogenesis.storage.tables import write_table
from glossogenesis.study.robustness import PostFiles, PostsDemo, PostsSettings
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the table of posts."""
    arguments = program_arguments(__doc__, output={"help": "posts.parquet"})
    settings = PostsSettings.model_validate(arguments.settings["posts"])
    train, held_out = (
        posts_of_files(settings.text)
        if isinstance(settings.text, PostFiles)
        else posts_of_demo(settings.text, settings.seed)
    )
    prepared = prepare_posts(train, held_out, settings)
    provenance = provenance_of(
        arguments,
        "posts",
        {path: Path(path) for path in settings.text.paths},
        seed=settings.seed,
        facts=prepared.facts,
    )
    write_table(arguments.output, prepared.table, provenance)
    for name, count in prepared.facts.items():
        print(f"{name.replace('_', ' ')}: {count:,}")


def posts_of_files(text: PostFiles) -> tuple[list[LabelledPost], list[LabelledPost] | None]:
    """Return training posts, and held-out ones where there are files of them."""
    train = [post for path in text.files for post in read_post_file(path, text)]
    if not text.held_out_files:
        return train, None
    return train, [post for path in text.held_out_files for post in read_post_file(path, text)]


def posts_of_demo(
    text: PostsDemo, seed: int
) -> tuple[list[LabelledPost], list[LabelledPost] | None]:
    """Return posts of both splits of the demo world."""
    world = read_world(text.communities, text.spellings, text.limit)
    splits = demo_posts(world, text.train_posts, text.held_out_posts, seed)
    return splits["train"], splits["held_out"]


if __name__ == "__main__":
    run_program(main)
