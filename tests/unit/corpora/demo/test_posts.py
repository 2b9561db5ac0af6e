import random
import re
from collections import Counter
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC

from glossogenesis.corpora.demo.posts import (
    FILLERS,
    MARKED,
    MARKED_FILLERS,
    NEUTRAL,
    TITLES,
    demo_posts,
    read_world,
    write_post,
)
from glossogenesis.exceptions import StudyError

RESOURCES = Path(__file__).parents[4] / "resources"
COMMUNITIES = RESOURCES / "demo" / "communities.tsv"
SPELLINGS = RESOURCES / "spelling_variants" / "ja.tsv"
KANJI_OR_KATAKANA = re.compile(r"[一-龠々]+|[ァ-ヴー]+")


@pytest.fixture(scope="module")
def world():
    return read_world(COMMUNITIES, SPELLINGS)


@pytest.fixture(scope="module")
def splits(world):
    return demo_posts(world, 120, 60, seed=0)


def text_of(post):
    return f"{post.title}\n{post.body}"


def words_in(text, communities):
    """Topic words in a text, by community; a word within a longer one is not counted."""
    owners = {
        word: community.name
        for community in communities
        for topic in community.topics
        for word in topic
    }
    pattern = re.compile("|".join(sorted(owners, key=len, reverse=True)))
    return Counter(owners[word] for word in pattern.findall(text))


def test_the_world_has_twelve_communities_whose_topics_are_their_own(world):
    communities = world.communities.values()
    assert len(communities) >= 12
    assert all(len(community.topics) >= 5 for community in communities)
    words = [word for community in communities for topic in community.topics for word in topic]
    assert len(set(words)) == len(words)


def test_every_marker_is_shared(world):
    shared = Counter(
        marker for community in world.communities.values() for marker in community.markers
    )
    assert all(len(community.markers) == 2 for community in world.communities.values())
    assert min(shared.values()) >= 2


def test_templates_are_many_and_tell_no_community(world):
    assert len(NEUTRAL) >= 25
    assert len(set(NEUTRAL)) == len(NEUTRAL)
    for sentence in (*NEUTRAL, *MARKED, *FILLERS, *MARKED_FILLERS, *TITLES):
        assert not words_in(sentence, world.communities.values()), sentence
    for sentence in (*NEUTRAL, *MARKED):
        # Before and after the place stand no kanji or katakana, which a word would run into.
        before, after = sentence.split("{a}")
        assert not KANJI_OR_KATAKANA.search(before[-1:] + after[:1]), sentence


def test_both_splits_have_as_many_posts_of_each_community_and_no_text_twice(world, splits):
    for split, number in (("train", 120), ("held_out", 60)):
        counts = Counter(post.label for post in splits[split])
        assert counts == dict.fromkeys(world.communities, number)
    texts = [text_of(post) for posts in splits.values() for post in posts]
    assert len(set(texts)) == len(texts)


def test_equal_seeds_write_equal_posts(world):
    assert demo_posts(world, 5, 2, seed=3) == demo_posts(world, 5, 2, seed=3)
    assert demo_posts(world, 5, 2, seed=3) != demo_posts(world, 5, 2, seed=4)


def test_posts_are_short_and_end_one_sentence_on_a_marker_of_their_community(world, splits):
    for post in splits["train"]:
        assert 2 <= len(post.title) <= 10
        assert len(text_of(post)) <= 46
        assert any(marker in post.body for marker in world.communities[post.label].markers)


def test_cues_are_as_frequent_as_planned(world, splits):
    posts = [post for posts in splits.values() for post in posts]
    counts = [(post.label, words_in(text_of(post), world.communities.values())) for post in posts]
    weak = sum(not found for _, found in counts) / len(posts)
    distracted = sum(len(found) > 1 for _, found in counts) / len(posts)
    assert weak == pytest.approx(0.04, abs=0.015)
    assert distracted == pytest.approx(0.2, abs=0.03)
    for label, found in counts:
        assert not found or found[label] == max(found.values())


def test_spellings_of_a_topic_are_interchangeable(world, splits):
    runs = Counter(run for post in splits["train"] for run in KANJI_OR_KATAKANA.findall(post.body))
    for topic in ("猫", "ネコ", "キャット"), ("電車", "デンシャ", "トレイン"):
        assert max(runs[word] for word in topic) < 4 * min(runs[word] for word in topic)


def test_most_topics_are_found_as_a_run_of_one_script(world, splits):
    topics = [topic for community in world.communities.values() for topic in community.topics]
    runs = {run for post in splits["train"] for run in KANJI_OR_KATAKANA.findall(post.body)}
    assert sum(any(word in runs for word in topic) for topic in topics) >= 0.95 * len(topics)


def test_a_linear_classifier_of_characters_does_well_but_not_perfectly(splits):
    texts = {split: [text_of(post) for post in posts] for split, posts in splits.items()}
    labels = {split: [post.label for post in posts] for split, posts in splits.items()}
    counts = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2)
    classifier = LinearSVC(random_state=0).fit(
        counts.fit_transform(texts["train"]), labels["train"]
    )
    found = classifier.predict(counts.transform(texts["held_out"]))
    assert 0.85 < f1_score(labels["held_out"], found, average="macro") < 0.98


def test_one_post_at_a_time(world):
    post = write_post(world, "pets", random.Random(0))
    assert post == write_post(world, "pets", random.Random(0))
    with pytest.raises(KeyError):
        write_post(world, "boats", random.Random(0))


HEADER = "community\ttopics\tmarkers"
GOOD = ("pets\tdog|cat|rabbit\tだよね|です！", "cars\tcar|motorbike|licence\tだよね")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["community\ttopics"], "names the columns community, topics"),
        ([HEADER, GOOD[0]], "1 communities; a study needs at least two"),
        ([HEADER, *GOOD, GOOD[0]], "line 4: a second community 'pets'"),
        ([HEADER, "pets\tdog|cat|boat\tです"], "line 2: topic 'boat' has no spellings"),
        ([HEADER, GOOD[0], "cars\tcar|cat|key\tです"], "line 3: topic 'cat' is community 'pets'"),
        ([HEADER, "pets\tdog|cat\tです"], "line 2: community 'pets' has 2 different topics of 2"),
        ([HEADER, "pets\tdog|dog|cat|rabbit\tです"], "has 3 different topics of 4"),
        ([HEADER, "pets\tdog|cat|rabbit\t"], "line 2: 2 filled cells for 3 columns"),
    ],
)  # fmt: skip
def test_a_bad_table_of_communities_is_named(tmp_path, lines, message):
    path = tmp_path / "communities.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(StudyError, match=message):
        read_world(path, SPELLINGS)


def test_a_limit_takes_the_first_communities(world):
    small = read_world(COMMUNITIES, SPELLINGS, limit=3)
    assert list(small.communities.items()) == list(world.communities.items())[:3]
    posts = demo_posts(small, 4, 2, seed=0)
    assert {post.label for post in posts["train"]} == {"cooking", "cars", "photography"}


def test_a_small_world_runs_out_of_posts(world, monkeypatch):
    monkeypatch.setattr("glossogenesis.corpora.demo.posts.DRAWS_OF_A_POST", 0)
    with pytest.raises(StudyError, match="no more posts for community 'cooking'"):
        demo_posts(world, 1, 1, seed=0)
