"""Posts of the demo world: Japanese communities with known topic words and style markers.

What tells a post's community is put in by hand, so that what is found in a classifier can be
checked against it: the topic words, each in one of its spellings at random, are strong cues; the
markers that end a sentence, which several communities share, are weak ones.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.corpora.demo.post_templates import (
    FILLERS,
    MARKED,
    MARKED_FILLERS,
    NEUTRAL,
    TITLES,
    TOPIC_TITLE,
)
from glossogenesis.corpora.posts import LabelledPost
from glossogenesis.corpora.spellings import read_spellings
from glossogenesis.corpora.splitting import SPLITS
from glossogenesis.corpora.tab_separated import TableRow, read_rows
from glossogenesis.errors import StudyError

COLUMNS = ("community", "topics", "markers")

WORDS = (1, 2, 3)
"""Topic words of a post's community in its body."""

WORD_WEIGHTS = (1, 3, 6)

FEWEST_SENTENCES = 2

WEAK_SHARE = 0.04
"""Share of posts whose only cue is their marker."""

DISTRACTED_SHARE = 0.2
"""Share of posts with one topic word of another community beside two of their own."""

TOPIC_TITLE_SHARE = 0.15
"""Share of the posts with topic words that have one in the title too."""

DRAWS_OF_A_POST = 1000
"""Posts that are written before no new one is expected."""


@dataclass(frozen=True)
class Community:
    """What the posts of one community are about, and how they sound."""

    name: str
    topics: tuple[tuple[str, ...], ...]
    """Spellings of each topic."""
    markers: tuple[str, ...]


@dataclass(frozen=True)
class PostWorld:
    """All communities, by name."""

    communities: Mapping[str, Community]


@dataclass(frozen=True)
class DemoPost:
    """One post."""

    title: str
    body: str


def read_world(
    communities: Path | str, spellings: Path | str, limit: int | None = None
) -> PostWorld:
    """Read the first `limit` communities (all where it is None) and the spellings of their topics.

    StudyError names the line where a community is repeated or has too few topics, or a topic has no
    spellings or is another community's too; and where there are fewer than two communities.
    """
    of_concept: dict[str, tuple[str, ...]] = {}
    for spelling in read_spellings(spellings):
        of_concept[spelling.concept] = (*of_concept.get(spelling.concept, ()), spelling.variant)
    rows = read_rows(
        communities, "table of communities", COLUMNS, "see `robustness.posts.text.communities`"
    )
    owners: dict[str, str] = {}
    found: dict[str, Community] = {}
    for row in rows[:limit]:
        name, topics = row.cells["community"], _parts(row.cells["topics"])
        if name in found:
            raise StudyError(f"{row.place}: a second community {name!r}; rename or remove one")
        _check_topics(row, name, topics, of_concept, owners)
        owners |= dict.fromkeys(topics, name)
        found[name] = Community(
            name, tuple(of_concept[topic] for topic in topics), _parts(row.cells["markers"])
        )
    if len(found) < 2:
        raise StudyError(f"{communities}: {len(found)} communities; a study needs at least two")
    return PostWorld(found)


def write_post(world: PostWorld, community: str, rng: random.Random) -> DemoPost:
    """Write one post of a community; KeyError where the world has none of that name."""
    home = world.communities[community]
    kind = rng.random()
    if kind < WEAK_SHARE:
        words: list[str] = []
    elif kind < WEAK_SHARE + DISTRACTED_SHARE:
        others = [other for name, other in world.communities.items() if name != community]
        stranger = rng.choice(others)
        words = [*_draw_words(home, 2, rng), *_draw_words(stranger, 1, rng)]
    else:
        words = _draw_words(home, rng.choices(WORDS, WORD_WEIGHTS)[0], rng)
    title = rng.choice(TITLES)
    if words and rng.random() < TOPIC_TITLE_SHARE:
        title = TOPIC_TITLE.format(a=_draw_words(home, 1, rng)[0])
    return DemoPost(title, _body(words, rng.choice(home.markers), rng))


def demo_posts(
    world: PostWorld, train_posts: int, held_out_posts: int, seed: int
) -> dict[str, list[LabelledPost]]:
    """Write the posts of both splits, communities taking turns; no text occurs twice.

    The posts of a community are `train_posts` and `held_out_posts`. StudyError where it cannot
    write so many different ones.
    """
    seen: set[DemoPost] = set()
    splits: dict[str, list[LabelledPost]] = {}
    for split, number in zip(SPLITS, (train_posts, held_out_posts), strict=True):
        states = {name: random.Random(f"{seed} {split} {name}") for name in world.communities}
        splits[split] = []
        for _ in range(number):
            for name, state in states.items():
                post = _new_post(world, name, state, seen)
                seen.add(post)
                splits[split].append(LabelledPost(name, post.title, post.body))
    return splits


def _new_post(
    world: PostWorld, community: str, rng: random.Random, seen: set[DemoPost]
) -> DemoPost:
    for _ in range(DRAWS_OF_A_POST):
        post = write_post(world, community, rng)
        if post not in seen:
            return post
    raise StudyError(
        f"the demo world has no more posts for community {community!r}; lower "
        "`robustness.posts.text.train_posts` or `held_out_posts`, or give it more topics"
    )


def _body(words: Sequence[str], marker: str, rng: random.Random) -> str:
    """Write a sentence for each word, and more to make two, in random order.

    One sentence ends on the marker, the others on a full stop.
    """
    wordless = max(FEWEST_SENTENCES - len(words), 0)
    slots = [*words, *[""] * wordless]
    rng.shuffle(slots)
    marked = rng.randrange(len(slots))
    templates = rng.sample(NEUTRAL, len(slots))
    fillers = rng.sample(FILLERS, len(slots))
    sentences = []
    for number, word in enumerate(slots):
        if number == marked:
            stem = rng.choice(MARKED if word else MARKED_FILLERS)
            sentences.append(stem.format(a=word) + marker)
        else:
            sentences.append((templates if word else fillers)[number].format(a=word))
    return "".join(sentences)


def _draw_words(community: Community, number: int, rng: random.Random) -> list[str]:
    """Draw different topics, each in one of its spellings."""
    return [rng.choice(topic) for topic in rng.sample(community.topics, number)]


def _parts(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split("|") if part.strip())


def _check_topics(
    row: TableRow,
    community: str,
    topics: tuple[str, ...],
    of_concept: Mapping[str, Sequence[str]],
    owners: Mapping[str, str],
) -> None:
    """StudyError where a community's topics cannot fill its posts or do not tell it apart."""
    if len(set(topics)) < max(WORDS) or len(set(topics)) < len(topics):
        raise StudyError(
            f"{row.place}: community {community!r} has {len(set(topics))} different topics of "
            f"{len(topics)}; give it at least {max(WORDS)}, each once"
        )
    for topic in topics:
        if topic not in of_concept:
            raise StudyError(
                f"{row.place}: topic {topic!r} has no spellings; add it to the table of spellings"
            )
        if topic in owners:
            raise StudyError(
                f"{row.place}: topic {topic!r} is community {owners[topic]!r}'s too; give each "
                "topic to one"
            )
