"""Sentences of demo posts, shared by all communities: nothing in them tells the community.

`{a}` is the place of a topic word. It stands at the beginning of its sentence or after kana or a
comma, and hiragana follows it, so that a word in kanji or katakana is a run of its own script.
"""

from __future__ import annotations

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
