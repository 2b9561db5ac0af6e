"""The two programs that bring posts into place, from files to tokens."""

import shutil

import pytest

import prepare_posts
import tokenise_posts
from glossogenesis.corpora.posts import read_posts
from glossogenesis.corpora.tokenised import TokenisedCorpus, post_token_ids
from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import LIBRARY, file_digest
from glossogenesis.storage.tables import read_provenance
from support.program_runs import run_main
from support.tiny_checkpoint import save_tiny_checkpoint, write_manifest

RESOURCES = LIBRARY.parents[1] / "resources"
DEMO = {
    "kind": "demo",
    "communities": str(RESOURCES / "demo" / "communities.tsv"),
    "spellings": str(RESOURCES / "spelling_variants" / "ja.tsv"),
    "train_posts": 4,
    "held_out_posts": 2,
}


@pytest.fixture
def prepare(tmp_path):
    """Prepare posts of a text's settings; returns them read."""

    def of(text, name="posts.parquet", **settings):
        posts = {"text": text, "language": "ja", **settings}
        run_main(prepare_posts, {"posts": posts}, output=tmp_path / name)
        return read_posts(tmp_path / name)

    return of


def write_tsv(path, rows):
    path.write_text(
        "\n".join("\t".join(row) for row in [("title", "body", "label"), *rows]), encoding="utf-8"
    )
    return str(path)


def test_demo_posts_are_prepared_and_equal_runs_give_equal_bytes(prepare, tmp_path, capsys):
    posts = prepare(DEMO, seed=5)
    printed = capsys.readouterr().out
    assert "posts read: 72" in printed
    assert "labels: 12" in printed
    assert (posts.of("train").height, posts.of("held_out").height) == (48, 24)
    prepare(DEMO, "again.parquet", seed=5)
    assert file_digest(tmp_path / "again.parquet") == file_digest(posts.path)
    provenance = read_provenance(posts.path)
    assert provenance.inputs == {
        DEMO[name]: file_digest(DEMO[name]) for name in ("communities", "spellings")
    }
    assert provenance.facts["duplicates_removed"] == 0


def test_posts_of_files_are_split_at_random_or_as_given(prepare, tmp_path):
    rows = [("", f"{label} {number}", label) for label in "ab" for number in range(10)]
    train = write_tsv(tmp_path / "a.tsv", [*rows, ("t", "", "a"), ("", "a 1", "b")])
    posts = prepare({"kind": "files", "files": [train]}, held_out_share=0.5)
    assert read_provenance(posts.path).facts == {
        "posts_read": 22,
        "without_label": 0,
        "without_text": 0,
        "duplicates_removed": 2,
        "repeated_removed": 0,
        "not_drawn": 0,
        "empty_bodies": 1,
        "train": 10,
        "held_out": 10,
        "labels": 2,
    }
    held_out = write_tsv(tmp_path / "b.tsv", [("", "new", "a"), ("", "b 1", "b"), ("", "b", "b")])
    posts = prepare({"kind": "files", "files": [train], "held_out_files": [held_out]})
    assert posts.of("held_out")["text"].to_list() == ["new", "b"]
    assert posts.of("train").height == 20
    assert read_provenance(posts.path).facts["repeated_removed"] == 1


def test_a_label_of_held_out_files_alone_is_named(prepare, tmp_path):
    train = write_tsv(tmp_path / "a.tsv", [("", f"{n}", "ab"[n % 2]) for n in range(6)])
    held_out = write_tsv(tmp_path / "b.tsv", [("", "x", "a"), ("", "y", "b"), ("", "z", "c")])
    with pytest.raises(StudyError, match="label 'c' has held_out posts but no train posts"):
        prepare({"kind": "files", "files": [train], "held_out_files": [held_out]})
    assert not (tmp_path / "posts.parquet").exists()


def test_posts_become_tokens_of_the_checkpoints_tokenizer(prepare, tmp_path, capsys):
    posts = prepare(DEMO)
    weights = save_tiny_checkpoint(tmp_path / "weights")
    manifest = write_manifest(tmp_path / "checkpoint.json", weights)
    settings = {"max_tokens": 4, "add_special_tokens": False, "language": "ja"}
    options = {"checkpoint": tmp_path / "checkpoint.json", "posts": posts.path}
    run_main(tokenise_posts, settings, **options, output=tmp_path / "tokens" / "manifest.json")
    corpus = TokenisedCorpus.read(tmp_path / "tokens" / "manifest.json")
    assert corpus.tokenizer_digest == manifest.tokenizer_digest
    assert [len(post_token_ids(corpus, split)) for split in ("train", "held_out")] == [48, 24]
    cut = corpus.sources["ja"]["cut"]["train"]
    assert 0 < cut <= 48
    assert f"{cut} cut to 4" in capsys.readouterr().out
    run_main(tokenise_posts, settings, **options, output=tmp_path / "again" / "manifest.json")
    for path in sorted((tmp_path / "tokens").iterdir()):
        assert file_digest(path) == file_digest(tmp_path / "again" / path.name)
    shutil.rmtree(tmp_path / "weights")
    with pytest.raises(StudyError, match="missing"):
        run_main(tokenise_posts, settings, **options, output=tmp_path / "third" / "manifest.json")
