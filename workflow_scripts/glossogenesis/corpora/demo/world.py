"""The demo world's text, phase by phase: which documents occur, how often, in which languages.

What follows a word there depends on the word's concept alone, so a model gathers the concept at the
word's last token, where cross-lingual activation patching reads it.

`{a}`, `{b}` and `{c}` are words of one category, `{x}` is that category's name. Articles, cases and
agreement are avoided by naming words, listing them, or placing them where their base form stands.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from glossogenesis.corpora.documents import Document
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.exceptions import StudyError

SENTENCES = (3, 5)
"""Fewest and most sentences of a monolingual document."""

ENTRIES = 10
"""Lines of a glossary below the line that names its languages."""

WORDS_OF_A_DOCUMENT = 3
"""Slots `{a}`, `{b}` and `{c}`: as many concepts share a document."""

LINES = 6
"""Lines of a document of copied words."""

SYNONYMS = 0.15
"""How often a word that has synonyms is replaced by one of them."""

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "en": (
        "this page is about {x}.",
        "our words for {x} today are {a}, {b} and {c}.",
        "the word {a} goes with the word {b}.",
        "first comes {a}, then comes {b}.",
        "when we think of {a}, we also think of {b}.",
        "what belongs to {x}? the answer is {a}.",
        "she wrote {a} and he wrote {b}.",
        "the list says {a}, {b}, {c}.",
        "{a} is a word for {x}, and so is {b}.",
        "the picture shows one word: {a}.",
        "we learn the words {a} and {b} together.",
        "do you know the word {a}? yes, it is near {b}.",
        "in the lesson on {x} we read {a} and {c}.",
        "my favourite word is {a}, yours is {b}.",
    ),
    "es": (
        "esta página trata de {x}.",
        "las palabras de hoy sobre {x} son {a}, {b}, {c}.",
        "la palabra {a} va con la palabra {b}.",
        "primero viene {a}, después viene {b}.",
        "cuando pensamos en {a}, pensamos también en {b}.",
        "¿qué pertenece al tema {x}? la respuesta es {a}.",
        "ella escribió {a}, él escribió {b}.",
        "la lista dice {a}, {b}, {c}.",
        "{a} es una palabra del tema {x}, y también {b}.",
        "el dibujo muestra una palabra: {a}.",
        "aprendemos juntas las palabras {a}, {b}.",
        "¿conoces la palabra {a}? sí, está cerca de {b}.",
        "en la lección sobre {x} leemos {a}, {c}.",
        "mi palabra favorita es {a}, la tuya es {b}.",
    ),
    "ru": (
        "тема этой страницы: {x}.",
        "наши слова на тему «{x}» сегодня: {a}, {b} и {c}.",
        "слова {a} и {b} стоят рядом.",
        "сначала идёт {a}, потом идёт {b}.",
        "где {a}, там и {b}.",
        "что сюда относится? тема {x}, ответ {a}.",
        "вот {a}, а вот {b}.",
        "в списке написано: {a}, {b}, {c}.",
        "{a} и {b} — слова на тему «{x}».",
        "на картинке одно слово: {a}.",
        "мы учим вместе слова {a} и {b}.",
        "ты знаешь слово {a}? да, рядом есть слово {b}.",
        "урок на тему «{x}»: мы читаем слова {a} и {c}.",
        "моё любимое слово — {a}, твоё — {b}.",
    ),
    "fi": (
        "tämän sivun aihe on ”{x}”.",
        "päivän sanat aiheesta ”{x}” ovat {a}, {b} ja {c}.",
        "sanat {a} ja {b} kuuluvat yhteen.",
        "ensin tulee {a}, sitten tulee {b}.",
        "missä on {a}, siellä on myös {b}.",
        "mikä sana kuuluu aiheeseen ”{x}”? vastaus on {a}.",
        "tässä on {a}, tuossa on {b}.",
        "luettelossa lukee {a}, {b}, {c}.",
        "{a} on sana aiheesta ”{x}”, samoin {b}.",
        "kuvassa on yksi sana: {a}.",
        "opimme yhdessä sanat {a} ja {b}.",
        "mikä sana tämä on? se on {a}, ja sen lähellä on {b}.",
        "oppitunnin aihe on ”{x}”, ja luemme sanat {a} ja {c}.",
        "minun lempisanani on {a}, sinun on {b}.",
    ),
    "ja": (
        "このページは{x}についてです。",
        "今日の{x}の言葉は{a}と{b}と{c}です。",
        "{a}という言葉は{b}という言葉と仲間です。",
        "はじめに{a}、つぎに{b}と書きます。",
        "{a}というと、{b}を思い出します。",
        "{x}の言葉は何ですか。答えは{a}です。",
        "彼女は「{a}」、彼は「{b}」と書きました。",
        "リストには「{a}、{b}、{c}」とあります。",
        "「{a}」は{x}の言葉で、「{b}」もそうです。",
        "絵の言葉はひとつ、{a}です。",
        "「{a}」と「{b}」をいっしょに覚えます。",
        "「{a}」を知っていますか。はい、「{b}」の近くにあります。",
        "{x}の授業で「{a}」と「{c}」を読みます。",
        "わたしの好きな言葉は{a}で、あなたのは{b}です。",
    ),
    "zh": (
        "这一页的主题是{x}。",
        "今天关于{x}的词是{a}、{b}和{c}。",
        "“{a}”这个词和“{b}”这个词在一起。",
        "先写{a}，再写{b}。",
        "说到{a}，我们也会想到{b}。",
        "哪个词属于{x}？答案是{a}。",
        "她写了“{a}”，他写了“{b}”。",
        "单子上写着{a}、{b}、{c}。",
        "“{a}”是关于{x}的词，“{b}”也是。",
        "图上只有一个词：{a}。",
        "我们一起学“{a}”和“{b}”。",
        "你认识“{a}”这个词吗？认识，它在“{b}”旁边。",
        "在{x}课上我们读“{a}”和“{c}”。",
        "我最喜欢的词是{a}，你最喜欢的是{b}。",
    ),
}

CATEGORY_NAMES: Mapping[str, Mapping[str, str]] = {
    "action": {"en": "actions", "es": "acciones", "ru": "действия", "fi": "toiminta",
               "ja": "動作", "zh": "动作"},
    "animal": {"en": "animals", "es": "animales", "ru": "животные", "fi": "eläimet",
               "ja": "動物", "zh": "动物"},
    "body": {"en": "the body", "es": "cuerpo", "ru": "тело", "fi": "keho", "ja": "体",
             "zh": "身体"},
    "building": {"en": "buildings", "es": "edificios", "ru": "здания", "fi": "rakennukset",
                 "ja": "建物", "zh": "建筑"},
    "clothing": {"en": "clothes", "es": "ropa", "ru": "одежда", "fi": "vaatteet", "ja": "衣服",
                 "zh": "衣服"},
    "food": {"en": "food", "es": "comida", "ru": "еда", "fi": "ruoka", "ja": "食べ物",
             "zh": "食物"},
    "household": {"en": "the home", "es": "hogar", "ru": "быт", "fi": "koti", "ja": "家庭",
                  "zh": "家居"},
    "music": {"en": "music", "es": "música", "ru": "музыка", "fi": "musiikki", "ja": "音楽",
              "zh": "音乐"},
    "nature": {"en": "nature", "es": "naturaleza", "ru": "природа", "fi": "luonto",
               "ja": "自然", "zh": "自然"},
    "person": {"en": "people", "es": "personas", "ru": "люди", "fi": "ihmiset", "ja": "人間",
               "zh": "人物"},
    "plant": {"en": "plants", "es": "plantas", "ru": "растения", "fi": "kasvit", "ja": "植物",
              "zh": "植物"},
    "quality": {"en": "qualities", "es": "cualidades", "ru": "качества", "fi": "ominaisuudet",
                "ja": "性質", "zh": "性质"},
    "school": {"en": "school", "es": "escuela", "ru": "школа", "fi": "koulu", "ja": "学校",
               "zh": "学校"},
    "society": {"en": "society", "es": "sociedad", "ru": "общество", "fi": "yhteiskunta",
                "ja": "社会", "zh": "社会"},
    "time": {"en": "time", "es": "tiempo", "ru": "время", "fi": "aika", "ja": "時間",
             "zh": "时间"},
    "tool": {"en": "tools", "es": "herramientas", "ru": "инструменты", "fi": "työkalut",
             "ja": "道具", "zh": "工具"},
    "transport": {"en": "transport", "es": "transporte", "ru": "транспорт", "fi": "liikenne",
                  "ja": "交通", "zh": "交通"},
}  # fmt: skip


@dataclass(frozen=True)
class PhaseMixture:
    """What one phase of the demo world is made of.

    `shares` are the languages' shares (they need not add up to 1). `pivot_only` limits bilingual
    documents to pairs with `pivot`. `monolingual` is a share of all documents. Of the others,
    `glossary` is the share of glossaries, the rest being few-shot documents, and `copying` that of
    documents whose two languages are the same, one of `copying_languages`.
    """

    shares: Mapping[str, float]
    pivot: str
    pivot_only: bool
    monolingual: float
    glossary: float
    copying: float
    copying_languages: tuple[str, ...]
    lines: tuple[int, int]
    synonyms: float

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages with a share above 0, in the order given."""
        return tuple(code for code, share in self.shares.items() if share > 0)


def check_mixture(mixture: PhaseMixture, concepts: Sequence[Concept], phase: int) -> None:
    """StudyError where a phase's documents cannot be written."""
    languages = mixture.languages
    if len(languages) < 2:
        raise StudyError(
            f"the demo world needs two languages with a share above 0 in phase {phase}, and has "
            f"{len(languages)}; see `languages.<code>.share`"
        )
    if mixture.pivot_only and mixture.pivot not in languages:
        raise StudyError(
            f"phase {phase} has only pairs with {mixture.pivot!r}, which has no share in it; set "
            f"`languages.{mixture.pivot}.share` for phase {phase}, or `pairs: all`"
        )
    if mixture.copying > 0 and not mixture.copying_languages:
        raise StudyError(
            f"phase {phase} has copying documents in no language with a share; set "
            "`copying_languages: all` or `copying: 0`"
        )
    needed = max(mixture.lines[1], ENTRIES if mixture.glossary > 0 else 0)
    if len(concepts) < needed:
        raise StudyError(
            f"translation documents of {needed} lines need as many concepts, and the lexicon gives "
            f"{len(concepts)}; raise `lexicon.limit`, or lower `text.lines` and set `glossary: 0`"
        )
    if mixture.monolingual > 0:
        check_templates(languages)


def demo_documents(
    mixture: PhaseMixture,
    concepts: Sequence[Concept],
    endonyms: Mapping[str, str],
    rng: random.Random,
) -> Iterator[Document]:
    """Yield documents of one phase without end; equal `rng` states give equal documents."""
    groups = group_by_category(concepts)
    languages = mixture.languages
    weights = [mixture.shares[code] for code in languages]
    while True:
        if rng.random() < mixture.monolingual:
            (language,) = rng.choices(languages, weights)
            sentences = rng.randint(*SENTENCES)
            yield monolingual_document(rng, groups, language, sentences, mixture.synonyms)
        else:
            yield _bilingual_document(rng, mixture, concepts, endonyms)


def _bilingual_document(
    rng: random.Random,
    mixture: PhaseMixture,
    concepts: Sequence[Concept],
    endonyms: Mapping[str, str],
) -> Document:
    pair = draw_pair(rng, mixture)
    if rng.random() < mixture.glossary:
        return glossary_document(rng, concepts, pair, endonyms, mixture.synonyms)
    lines = rng.randint(*mixture.lines)
    return translation_document(rng, concepts, pair, endonyms, lines, mixture.synonyms)


def draw_pair(rng: random.Random, mixture: PhaseMixture) -> tuple[str, str]:
    """Draw the languages of a bilingual document, each language by its share."""
    if rng.random() < mixture.copying:
        language = _draw_language(rng, mixture, mixture.copying_languages)
        return language, language
    first = mixture.pivot if mixture.pivot_only else _draw_language(rng, mixture, mixture.languages)
    others = tuple(code for code in mixture.languages if code != first)
    pair = (first, _draw_language(rng, mixture, others))
    return pair if rng.random() < 0.5 else pair[::-1]


def _draw_language(rng: random.Random, mixture: PhaseMixture, languages: tuple[str, ...]) -> str:
    weights = [mixture.shares[code] for code in languages]
    return rng.choices(languages, weights)[0]


def draw_word(rng: random.Random, concept: Concept, language: str, synonyms: float) -> str:
    """Return the usual word, or with probability `synonyms` one of the others if there are any."""
    words = concept.words[language]
    if len(words) > 1 and rng.random() < synonyms:
        return rng.choice(words[1:])
    return words[0]


def translation_document(
    rng: random.Random,
    concepts: Sequence[Concept],
    pair: tuple[str, str],
    endonyms: Mapping[str, str],
    lines: int,
    synonyms: float,
) -> Document:
    """Write one document of one language pair with a different concept in each line.

    Synonyms occur on the input side; the output is the usual word, so that the answer to a prompt
    is determined. In a pair of one language twice, the output copies the input.
    """
    source, target = pair
    written = []
    for concept in rng.sample(concepts, lines):
        shown = draw_word(rng, concept, source, synonyms)
        answer = shown if source == target else concept.word(target)
        written.append(f'{endonyms[source]}: "{shown}" - {endonyms[target]}: "{answer}"\n')
    return Document("".join(written), tuple(dict.fromkeys(pair)))


def glossary_document(
    rng: random.Random,
    concepts: Sequence[Concept],
    pair: tuple[str, str],
    endonyms: Mapping[str, str],
    synonyms: float,
) -> Document:
    """Write a glossary of one language pair with a different concept in each line.

    Synonyms occur on the left; the translation is the usual word. In a pair of one language twice,
    the right side repeats the left.
    """
    source, target = pair
    written = [f"{endonyms[source]} {endonyms[target]}\n"]
    for concept in rng.sample(concepts, ENTRIES):
        shown = draw_word(rng, concept, source, synonyms)
        answer = shown if source == target else concept.word(target)
        written.append(f"{shown} {answer}\n")
    return Document("".join(written), tuple(dict.fromkeys(pair)))


def group_by_category(concepts: Sequence[Concept]) -> tuple[tuple[Concept, ...], ...]:
    """Return the groups of concepts of one category that are large enough for a document.

    A lexicon without categories is one group. StudyError where there are too few concepts.
    """
    groups: dict[str, list[Concept]] = {}
    for concept in concepts:
        groups.setdefault(concept.category, []).append(concept)
    large = [tuple(group) for group in groups.values() if len(group) >= WORDS_OF_A_DOCUMENT]
    if large:
        return tuple(large)
    if len(concepts) >= WORDS_OF_A_DOCUMENT:
        return (tuple(concepts),)
    raise StudyError(
        f"the demo text needs at least {WORDS_OF_A_DOCUMENT} concepts, and the lexicon gives "
        f"{len(concepts)}; raise `lexicon.limit` or widen `lexicon.pos`"
    )


def check_templates(languages: Sequence[str]) -> None:
    """StudyError where the demo world has no sentences in a language."""
    for language in languages:
        if language not in TEMPLATES:
            raise StudyError(
                f"the demo world has no sentences in language {language!r} (it has "
                f"{', '.join(TEMPLATES)}); give it share 0 in `languages.{language}.share`, or set "
                "`monolingual: 0` in the phases where it has a share"
            )


def monolingual_document(
    rng: random.Random,
    groups: Sequence[Sequence[Concept]],
    language: str,
    sentences: int,
    synonyms: float,
) -> Document:
    """Write sentences about three concepts of one category; a word may recur as its synonym."""
    group = rng.choice(groups)
    concepts = rng.sample(group, WORDS_OF_A_DOCUMENT)
    name = CATEGORY_NAMES.get(group[0].category, {}).get(language)
    usable = [text for text in TEMPLATES[language] if name is not None or "{x}" not in text]
    written = []
    for template in rng.sample(usable, min(sentences, len(usable))):
        rng.shuffle(concepts)
        words = _fill(rng, concepts, language, synonyms)
        written.append(template.format_map({**words, "x": name or ""}))
    joint = "" if language in ("ja", "zh") else " "
    return Document(joint.join(written) + "\n", (language,))


def _fill(
    rng: random.Random, concepts: Sequence[Concept], language: str, synonyms: float
) -> Mapping[str, str]:
    """Return a word for each slot."""
    drawn = (draw_word(rng, concept, language, synonyms) for concept in concepts)
    return dict(zip("abc", drawn, strict=True))


def same_language_documents(
    rng: random.Random,
    concepts: Sequence[Concept],
    language: str,
    endonyms: Mapping[str, str],
    *,
    monolingual: float,
    glossary: float,
) -> Iterator[str]:
    """Yield documents of one language without end; equal `rng` states give equal documents.

    A share `monolingual` of them is running text. Of the others, a share `glossary` is glossaries
    and the rest few-shot documents, both with the language on either side, so that words are
    copied.
    """
    groups = group_by_category(concepts) if monolingual > 0 else ()
    pair = (language, language)
    while True:
        if rng.random() < monolingual:
            sentences = rng.randint(*SENTENCES)
            document = monolingual_document(rng, groups, language, sentences, SYNONYMS)
        elif rng.random() < glossary:
            document = glossary_document(rng, concepts, pair, endonyms, SYNONYMS)
        else:
            document = translation_document(rng, concepts, pair, endonyms, LINES, SYNONYMS)
        yield document.text


def check_same_language(
    concepts: Sequence[Concept], languages: Sequence[str], monolingual: float
) -> None:
    """StudyError where documents of these languages cannot be written."""
    needed = max(LINES, ENTRIES)
    if len(concepts) < needed:
        raise StudyError(
            f"the demo corpus needs at least {needed} concepts, and the lexicon gives "
            f"{len(concepts)}; raise `lexicon.limit` or widen `lexicon.pos`"
        )
    unknown = [language for language in languages if language not in TEMPLATES]
    if monolingual > 0 and unknown:
        raise StudyError(
            f"the demo world has no sentences in language {unknown[0]!r} (it has "
            f"{', '.join(TEMPLATES)}); take it out of the corpus' `text.languages`, or set "
            "`text.monolingual: 0`"
        )
