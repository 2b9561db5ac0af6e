"""Posts of the demo world: Japanese communities with known topic words and style markers.

What tells a post's community is put in by hand, so that what is found in a classifier can be
checked against it: the topic words, each in one of its spellings at random, are strong cues; the
markers that end a sentence, which several communities share, are weak ones.

`{a}` is the place of a topic word. It stands at the beginning of its sentence or after kana or a
comma, and hiragana follows it, so that a word in kanji or katakana is a run of its own script.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.corpora.documents import SPLITS
from glossogenesis.corpora.lexicon import TableRow, read_rows
from glossogenesis.corpora.posts import LabelledPost, read_spellings
from glossogenesis.exceptions import StudyError

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

TITLES = (
    "質問", "相談", "教えて", "お願い", "報告", "雑談", "悩み", "初投稿", "聞いて", "ひとこと",
    "独り言", "近況", "募集中", "助けて", "お知らせ", "感想", "意見求む", "迷っています",
)  # fmt: skip

TOPIC_TITLE = "{a}の話"

NEUTRAL = (
    "{a}を探す。", "{a}が気になる。", "{a}の夢を見た。", "{a}を見た。", "{a}の話を聞いた。",
    "{a}を調べる。", "{a}に詳しい人は？", "{a}のことばかり。", "まず{a}から。", "{a}で悩む。",
    "{a}が増えた。", "{a}の本を読む。", "また{a}か。", "{a}に驚いた。", "{a}を考える。",
    "{a}は久しぶり。", "{a}に感謝。", "{a}の違いは？", "やはり{a}だ。", "{a}を思い出す。",
    "{a}が一番。", "{a}を語ろう。", "もう{a}しかない。", "{a}にも慣れた。", "{a}が恋しい。",
    "{a}を待つ。", "{a}を選ぶ。", "{a}の噂を聞く。", "もし{a}なら？", "{a}がない。",
)  # fmt: skip
"""Sentences about a topic word."""

MARKED = (
    "{a}は大事", "{a}が好き", "{a}は苦手", "{a}が最高", "{a}が必要", "{a}は便利", "{a}が心配",
    "{a}は不思議", "{a}は大変", "{a}が楽しみ", "{a}が話題", "{a}が人気", "{a}は初めて",
    "{a}が残念", "{a}が自慢", "{a}は特別", "{a}は面倒", "{a}は得意", "{a}が憧れ", "{a}は十分",
)  # fmt: skip
"""Beginnings of sentences about a topic word that a marker ends."""

FILLERS = (
    "よろしく。", "困った。", "どう思う？", "助かる。", "今日は疲れた。", "返事を待つ。",
    "本当の話。", "なぜだろう。", "もう寝る。", "意見が欲しい。", "初めて書く。", "長くなった。",
    "昨日のこと。", "誰かいる？", "すみません。", "少し迷う。",
)  # fmt: skip
"""Sentences without a topic word."""

MARKED_FILLERS = (
    "今日は暇", "毎日大変", "これは秘密", "少し不安", "本当に感謝", "やはり無理", "いつも元気",
    "今は幸せ", "とても残念", "少し退屈",
)  # fmt: skip
"""Beginnings of sentences without a topic word that a marker ends."""


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
