"""Lexicons: concepts and their words in each language, and when two words are one.

Words are compared by Unicode NFKC with their case folded; every apostrophe is one apostrophe, every
hyphen one hyphen, and what cannot be seen does not count. So `ng’ombe` is `ng'ombe`, ﾈｺ is ネコ,
and `STRASSE` is `straße`.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import filled_cells, read_text

FACT_COLUMNS = ("concept", "pos", "category", "hypernym")
MARK_COLUMNS = ("homographs", "polysemous")

MULTISIMLEX_PREFIXES = {
    "ar": "ARA", "cy": "CYM", "en": "ENG", "es": "SPA", "et": "EST", "fi": "FIN", "fr": "FRA",
    "he": "HEB", "pl": "POL", "ru": "RUS", "sw": "SWA", "yue": "YUE", "zh": "CMN",
}  # fmt: skip
CONCEPTICON_COLUMNS = {
    "ar": "ARABIC", "ca": "CATALAN", "cs": "CZECH", "cy": "WELSH", "da": "DANISH", "de": "GERMAN",
    "el": "GREEK", "en": "ENGLISH", "es": "SPANISH", "et": "ESTONIAN", "fi": "FINNISH",
    "fr": "FRENCH", "ga": "IRISH", "he": "HEBREW", "hu": "HUNGARIAN", "is": "ICELANDIC",
    "it": "ITALIAN", "ja": "JAPANESE", "lb": "LUXEMBOURGISH", "lt": "LITHUANIAN", "nl": "DUTCH",
    "no": "NORWEGIAN", "pl": "POLISH", "pt": "PORTUGUESE", "ru": "RUSSIAN", "sk": "SLOVAK",
    "sr": "SERBIAN", "sv": "SWEDISH", "sw": "SWAHILI", "tr": "TURKISH", "yue": "CANTONESE",
    "zh": "CHINESE",
}  # fmt: skip

NAME_COLUMNS = ("CONCEPTICON_GLOSS", "ENGLISH", "GLOSS", "ID")
"""Columns that may name a Concepticon list's concepts; the first that is filled does."""

SHOWN_POS = 8
"""Parts of speech that a message lists."""

FORBIDDEN = re.compile(r'["\t\n]')

APOSTROPHES = "'’‘‛ʼʻʽ`´′＇ꞌ՚׳"
HYPHENS = "-‐‑‒–−﹣－־"

_UNIFIED = str.maketrans(
    {
        **dict.fromkeys(APOSTROPHES, "'"),
        **dict.fromkeys(HYPHENS, "-"),
        # A soft hyphen, spaces without width, marks of direction, and a byte order mark.
        **dict.fromkeys("\u00ad\u200b\u2060\ufeff\u200e\u200f\u061c", None),
    }
)

_BRACKETS = {"(": ")", "[": "]", "{": "}", "（": "）", "［": "］", "｛": "｝",
             "【": "】", "〔": "〕", "〖": "〗", "⟨": "⟩", "〈": "〉"}  # fmt: skip
_CLOSING = frozenset(_BRACKETS.values())

SEPARATORS = re.compile(r"[,;/|，；／、､،؛｜]|\s~\s")
"""What stands between the words of a cell in published word lists."""

SYNONYMS = re.compile(r"\|")
"""What stands between the words of a cell in this project's own lexicons."""


@dataclass(frozen=True)
class Concept:
    """A concept and, for each language, its words, the usual one first."""

    name: str
    pos: str
    category: str
    hypernym: str
    words: Mapping[str, tuple[str, ...]]

    def word(self, language: str) -> str:
        """The usual word in a language."""
        return self.words[language][0]


@dataclass(frozen=True)
class Lexicon:
    """Concepts with a word in every asked language, and how many lacked one."""

    concepts: tuple[Concept, ...]
    left_out: int

    def __getitem__(self, name: str) -> Concept:
        """The concept of that name; KeyError where there is none."""
        for concept in self.concepts:
            if concept.name == name:
                return concept
        raise KeyError(name)


def read_lexicon(
    path: Path | str,
    *,
    format: str,
    languages: Sequence[str],
    pos: Sequence[str] = ("noun",),
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> Lexicon:
    """Read the concepts of the given parts of speech, with their words in the given languages.

    `format` is `tsv`, `multisimlex` or `concepticon`. In the project's own format an empty cell is
    an error; in the other two, concepts that lack a word in a language are left out and counted.
    StudyError names the file, the line and the fix.
    """
    header, rows = _read_rows(Path(path), "," if format == "multisimlex" else "\t")
    readers: dict[str, Callable[..., tuple[list[Concept], int]]] = {
        "tsv": _read_own,
        "multisimlex": _read_multisimlex,
        "concepticon": _read_concepticon,
    }
    concepts, left_out = readers[format](Path(path), header, rows, languages, columns or {})
    wanted = [concept for concept in concepts if concept.pos in pos]
    if concepts and not wanted:
        counted = Counter(concept.pos or "(empty)" for concept in concepts).most_common(SHOWN_POS)
        there = ", ".join(f"{name} ({count})" for name, count in counted)
        raise StudyError(
            f"{path}: no concept with part of speech {' or '.join(pos)}; there are {there}. Choose "
            f"by `lexicon.pos`, such as `pos: [{counted[0][0]}]`"
        )
    if limit is not None and len(wanted) < limit:
        raise StudyError(
            f"{path}: {len(wanted)} usable concepts, but `lexicon.limit` asks for {limit} "
            f"({left_out} left out for lack of a word or a single part of speech); lower it, "
            "remove a language, or use a larger lexicon"
        )
    if not wanted:
        raise StudyError(
            f"{path}: no concept has a word in each of {', '.join(languages)} ({left_out} left "
            "out for lack of one or of a single part of speech); see `languages` in the study"
        )
    return Lexicon(tuple(wanted[:limit]), left_out)


def _read_rows(path: Path, delimiter: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header and the rows with their line numbers."""
    text = read_text(path, "lexicon", "see `lexicon.path` in the study")
    lines = enumerate(_cells(path, text, delimiter), start=1)
    header: list[str] = []
    rows = []
    for line, cells in lines:
        if line == 1:
            header = filled_cells([cell.strip() for cell in cells])
        elif any(cell.strip() for cell in cells):
            cells = filled_cells(cells, len(header))
            if len(cells) > len(header):
                raise StudyError(
                    f"{path}, line {line}: {len(cells)} cells for {len(header)} columns; remove "
                    "the surplus separators"
                )
            padded = [*cells, *[""] * (len(header) - len(cells))]
            rows.append((line, dict(zip(header, padded, strict=True))))
    return header, rows


def _cells(path: Path, text: str, delimiter: str) -> list[list[str]]:
    """Split a table into rows of cells; only comma-separated tables quote their cells."""
    if delimiter == "\t":
        return [line.split("\t") for line in text.splitlines()]
    try:
        return list(csv.reader(text.splitlines(), delimiter=delimiter))
    except csv.Error as error:
        raise StudyError(
            f"{path}: not a comma-separated table ({error}); check its quotes"
        ) from None


def _require_columns(path: Path, header: Sequence[str], needed: Mapping[str, str]) -> None:
    """StudyError where the header lacks a column; `needed` maps columns to what they are for."""
    for column, purpose in needed.items():
        if column not in header:
            raise StudyError(
                f"{path}: no column {column!r} for {purpose}; {_fix_of(column)} (there: "
                f"{', '.join(header) or 'none'})"
            )
        if header.count(column) > 1:
            raise StudyError(f"{path}: column {column!r} appears twice; rename or remove one")


def _usual(columns: Mapping[str, str], code: str) -> str:
    """Return a published list's column of a language, whatever script or region its code adds."""
    return columns.get(code) or columns.get(re.split("[-_]", code)[0], code)


def _fix_of(column: str) -> str:
    if column == "pos":
        return "add it, such as `noun` in every row, by which `lexicon.pos` chooses"
    if column in FACT_COLUMNS:
        return "add it, whatever it holds"
    return "add it, or name another under `lexicon.columns`, or take the language out of the study"


def _read_own(
    path: Path,
    header: list[str],
    rows: list[tuple[int, dict[str, str]]],
    languages: Sequence[str],
    columns: Mapping[str, str],
) -> tuple[list[Concept], int]:
    """Read `concept pos category hypernym` and one column per language, `word|synonym`."""
    column_of = {code: columns.get(code, code) for code in languages}
    needed = dict.fromkeys(FACT_COLUMNS, "each concept")
    needed |= {column: f"language {code!r}" for code, column in column_of.items()}
    _require_columns(path, header, needed)
    concepts: list[Concept] = []
    names: set[str] = set()
    for line, row in rows:
        name = row["concept"].strip()
        if not name or name in names:
            problem = "empty" if not name else f"a second {name!r}"
            raise StudyError(f"{path}, line {line}: column 'concept' is {problem}; give it a name")
        names.add(name)
        words = {code: words_of_cell(row[column], SYNONYMS) for code, column in column_of.items()}
        for code, cell in words.items():
            if not cell:
                raise StudyError(
                    f"{path}, line {line}: concept {name!r} has no word in column "
                    f"{column_of[code]!r}; fill the cell or remove the row"
                )
            if any(FORBIDDEN.search(word) for word in cell):
                raise StudyError(
                    f"{path}, line {line}: concept {name!r} has a double quote in column "
                    f"{column_of[code]!r}; prompts delimit words by quotes, so remove it"
                )
        facts = (row["pos"].strip(), row["category"].strip(), row["hypernym"].strip())
        concepts.append(Concept(name, *facts, words))
    return concepts, 0


def _read_multisimlex(
    path: Path,
    header: list[str],
    rows: list[tuple[int, dict[str, str]]],
    languages: Sequence[str],
    columns: Mapping[str, str],
) -> tuple[list[Concept], int]:
    """Read Multi-SimLex's translation.csv: pairs of words whose repeats become synonyms.

    A concept is an English word; one with two parts of speech is left out, as in Körner et al.
    """
    prefix_of = {code: columns.get(code, _usual(MULTISIMLEX_PREFIXES, code)) for code in languages}
    english = MULTISIMLEX_PREFIXES["en"]
    needed = {"PoS": "parts of speech", f"{english} 1": "concepts", f"{english} 2": "concepts"}
    for code, prefix in prefix_of.items():
        needed |= {f"{prefix} {side}": f"language {code!r}" for side in (1, 2)}
    _require_columns(path, header, needed)
    found: dict[str, dict[str, list[str]]] = {}
    parts: dict[str, set[str]] = {}
    for _, row in rows:
        for side in (1, 2):
            name = row[f"{english} {side}"].strip()
            parts.setdefault(name, set()).add(row["PoS"].strip().removesuffix("s"))
            words = found.setdefault(name, {code: [] for code in languages})
            for code, prefix in prefix_of.items():
                words[code].extend(words_of_cell(row[f"{prefix} {side}"], SYNONYMS))
    return _complete(
        (name, next(iter(parts[name])) if len(parts[name]) == 1 else None, words)
        for name, words in found.items()
    )


def _read_concepticon(
    path: Path,
    header: list[str],
    rows: list[tuple[int, dict[str, str]]],
    languages: Sequence[str],
    columns: Mapping[str, str],
) -> tuple[list[Concept], int]:
    """Read a Concepticon list: one column per language in capitals, `-` where a word is missing."""
    column_of = {code: columns.get(code, _usual(CONCEPTICON_COLUMNS, code)) for code in languages}
    name_columns = [name for name in NAME_COLUMNS if name in header] or ["ID"]
    needed = dict.fromkeys(name_columns, "names of concepts")
    needed |= {column: f"language {code!r}" for code, column in column_of.items()}
    _require_columns(path, header, needed)
    found: dict[str, dict[str, list[str]]] = {}
    for _, row in rows:
        names = (row[column].strip() for column in name_columns)
        name = next((name for name in names if name not in ("", "-")), "")
        words = found.setdefault(name, {code: [] for code in languages})
        for code, column in column_of.items():
            words[code].extend(words_of_cell(row[column]))
    return _complete((name, "noun", words) for name, words in found.items())


def _complete(
    found: Iterable[tuple[str, str | None, dict[str, list[str]]]],
) -> tuple[list[Concept], int]:
    """Keep concepts with one part of speech and a word in every language; count the others."""
    concepts: list[Concept] = []
    left_out = 0
    for name, pos, words in found:
        unique = {
            code: first_of_equal(word for word in cell if not FORBIDDEN.search(word))
            for code, cell in words.items()
        }
        if name not in ("", "-") and pos is not None and all(unique.values()):
            concepts.append(Concept(name, pos, "", "", unique))
        else:
            left_out += 1
    return concepts, left_out


def comparable(text: str) -> str:
    """Return a text such that two texts are one word where these are equal.

    NFKC stands on both sides of the case folding because each can undo the other's work (Unicode
    16, definition D145).
    """
    unified = text.translate(_UNIFIED)
    folded = unicodedata.normalize("NFKC", unified).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).translate(_UNIFIED).split())


def joins(character: str) -> bool:
    """Whether `character` continues a word: letter, mark, number, connector or invisible joiner."""
    category = unicodedata.category(character)
    return category[0] in "LMN" or category in ("Pc", "Cf")


def words_of_cell(cell: str, separators: re.Pattern[str] = SEPARATORS) -> tuple[str, ...]:
    """Return the words of a cell of a word list, the first one of those that are equal.

    Annotations in brackets go first, nested ones too, then the cell is cut at separators, then
    marks that are no letters (`*`, `~`, a lone `-`) are taken off its words.
    """
    words = (_without_marks(word) for word in separators.split(_without_annotations(cell)))
    return first_of_equal(word for word in words if word)


def first_of_equal(words: Iterable[str]) -> tuple[str, ...]:
    """Return the words in their order, the first one of those that are equal."""
    first: dict[str, str] = {}
    for word in words:
        first.setdefault(comparable(word), word)
    return tuple(first.values())


def _without_annotations(cell: str) -> str:
    """Return a cell without what its brackets hold; one that is not closed goes on to the end."""
    kept: list[str] = []
    open_brackets: list[str] = []
    for character in cell:
        if character in _BRACKETS:
            open_brackets.append(_BRACKETS[character])
        elif character in _CLOSING:
            # A bracket closes what was opened in it as well; one that closes nothing is a mark.
            if character in open_brackets:
                del open_brackets[open_brackets.index(character) :]
        elif not open_brackets:
            kept.append(character)
    return "".join(kept)


def _without_marks(word: str) -> str:
    """Return a word without marks at its ends, `*` and `~` in it, and more than single spaces."""
    word = " ".join(word.replace("*", "").replace("~", "").split())
    start, end = 0, len(word)
    while start < end and _is_mark(word[start]):
        start += 1
    while end > start and _is_mark(word[end - 1]):
        end -= 1
    word = word[start:end]
    # An apostrophe may be a letter at one end, as in `po'`; at both ends it quotes.
    is_quoted = len(word) > 1 and word[0] in APOSTROPHES and word[-1] in APOSTROPHES
    word = word[1:-1] if is_quoted else word
    return word if any(unicodedata.category(character)[0] in "LN" for character in word) else ""


def _is_mark(character: str) -> bool:
    """Whether a character is no part of a word that it begins or ends.

    Double quotes are left, for whoever reads the list says what is wrong with them.
    """
    category = unicodedata.category(character)
    if character in APOSTROPHES or character == '"':
        return False
    return category[0] in "PSZC" or category == "No"


@dataclass(frozen=True)
class TableRow:
    """One row of a table, and where it stands."""

    cells: dict[str, str]
    """Cells by column, without white space at their ends."""
    place: str
    """File and line, for messages."""


def read_rows(path: Path | str, what: str, columns: Sequence[str], fix: str) -> list[TableRow]:
    """Read the rows of a table that has exactly `columns`, in any order, and no empty cell.

    Cells are not quoted; empty lines and lines that begin with `#` are passed over. `what` names
    the kind of table and `fix` says what to do where there is none. StudyError names the line.
    """
    lines = [
        (number, [cell.strip() for cell in line.split("\t")])
        for number, line in enumerate(read_text(path, what, fix).split("\n"), start=1)
        if line.strip() and not line.startswith("#")
    ]
    header = filled_cells(lines[0][1]) if lines else []
    if sorted(header) != sorted(columns):
        raise StudyError(
            f"{path}: its first line names the columns {', '.join(header) or '(none)'}; a {what} "
            f"has {', '.join(columns)}, separated by tabs"
        )
    rows = []
    for number, cells in lines[1:]:
        place = f"{path}, line {number}"
        cells = filled_cells(cells, len(header))
        if len(cells) != len(header) or "" in cells:
            raise StudyError(
                f"{place}: {sum(map(bool, cells))} filled cells for {len(header)} columns; fill "
                "each, and separate them by single tabs"
            )
        rows.append(TableRow(dict(zip(header, cells, strict=True)), place))
    return rows
