"""Content as no one should write it: mutations of good files, for tests of reading.

Every strategy begins with a good file, so that most of what it draws gets past the first check.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import yaml
from hypothesis import strategies as st

from glossogenesis.exceptions import StudyError

HUGE = 10**400
"""More than any number of a computer's own; YAML and JSON can hold it."""

NAMES = (
    "",
    " ",
    ".",
    "..",
    "../x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "~",
    "~nobody/x",
    "a/b",
    "a\\b",
    "..\\x",
    "C:\\x",
    "CON",
    "nul.txt",
    "-rf",
    "--help",
    "a b",
    "a'b",
    'a"b',
    "a;b",
    "$(id)",
    "`id`",
    "a|b",
    "a&b",
    "{x}",
    "{",
    "<results>",
    "*",
    "?",
    "[a]",
    "%s",
    "%00",
    "a\0b",
    "a\nb",
    "a\rb",
    "a\tb",
    "a\x1b[2Jb",
    "a\u202eb",
    "a\u2028b",
    "\ufeffa",
    "\ud800",
    "\U0010ffff",
    "é" * 300,
    "x" * 300,
    "x" * 5000,
    "a/" * 3000,
    "NaN",
    "null",
    "~",
    "1e3",
    "0x10",
    "0o17",
    "yes",
)
"""Names, paths and texts that something somewhere takes for something else."""

NUMBERS: tuple[Any, ...] = (
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    256,
    2**31,
    -(2**31),
    2**53 + 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**20,
    10**308,
    HUGE,
    -HUGE,
    0.0,
    -0.0,
    0.5,
    1e-320,
    1e-12,
    1.5,
    1e9,
    1e15,
    1e200,
    1.7e308,
    float("inf"),
    float("-inf"),
    float("nan"),
    True,
    False,
)

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.sampled_from(NUMBERS),
    st.sampled_from(NAMES),
    st.text(max_size=8),
    st.integers(-3, 40),
)
KEYS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(NAMES), st.sampled_from([0, 1, -1, 2.5, True, None, 2**63]), st.text(max_size=4)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


def places(content: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of some content, as the keys and indices that lead there."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(content, dict):
        pairs = list(content.items())
    elif isinstance(content, list):
        pairs = list(enumerate(content))
    found = []
    for key, inner in pairs:
        found += [(*way, key), *places(inner, (*way, key))]
    return found


@st.composite
def mutated(draw: st.DrawFn, good: Any, *, most: int = 2) -> Any:
    """Some content with one or more places replaced, removed, renamed, repeated, swapped or added.

    Which actions are drawn for what place is left to hypothesis; the good content is not changed.
    """
    content = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, most))):
        found = places(content)
        if not found:
            return draw(VALUES)
        *way, last = draw(st.sampled_from(found))
        holder = content
        for key in way:
            holder = holder[key]
        action = draw(
            st.sampled_from(["replace"] * 4 + ["remove", "rename", "add", "wrap", "swap"])
        )
        if action == "replace":
            holder[last] = draw(VALUES)
        elif action == "remove":
            del holder[last]
        elif action == "wrap":
            holder[last] = draw(st.sampled_from([[holder[last]], {"x": holder[last]}, {}, []]))
        elif action == "swap":
            holder[last] = copy.deepcopy(_at(content, draw(st.sampled_from(found))))
        elif isinstance(holder, list):
            holder.append(draw(VALUES))
        elif action == "rename":
            holder[draw(KEYS)] = holder.pop(last)
        else:
            holder[draw(KEYS)] = draw(VALUES)
    return content


def _at(content: Any, way: Sequence[Any]) -> Any:
    for key in way:
        content = content[key]
    return content


YAML_TRICKS = (
    "{}\nx: !!python/object/apply:os.system [touch marker]\n",
    "{}\nx: !!python/name:os.system\n",
    "{}\nx: !!binary YWJj\n",
    "{}\nx: !!set {{a, b}}\n",
    "{}\nx: !unknown 3\n",
    "{}\nx: 2001-13-45\n",
    "{}\nx: 2001-02-03\n",
    "{}\nx: 0o17\ny: 017\nz: 1_000\n",
    "{}\nx: 1:30:00\n",
    "{}\nstudy: again\n",
    "{}\n? [a, b]\n: c\n",
    "{}\n? {{a: b}}\n: c\n",
    "{}\nx: &x [*x]\n",
    "{}\nx: &x {{y: *x}}\n",
    "{}\nx: *unknown\n",
    "{}\n<<: {{study: merged}}\n",
    "{}\n<<: [1, 2]\n",
    "{}\n<<: 3\n",
    "{}\nx: &b [1]\ny: *b\n",
    "{}\n---\nstudy: second\n",
    "--- {}\n",
    "%YAML 9.9\n---\n{}\n",
    "{}\n\tx: tab\n",
    "{}\nx: [\n",
    "{}\nx: 'open\n",
    '{}\nx: "\\ud800"\n',
    '{}\n"\\ud800": 1\n',
    '{}\n"\\e[2J": 1\n',
    "{}\nx: |\n  text\n y: 2\n",
    "\ufeff{}",
    "{}\n__use_yte__: true\nx: ?open('marker', 'w')\n",
)
"""What YAML can say beyond keys and values, around a good study."""


def yaml_bombs() -> tuple[str, ...]:
    """Short files that stand for more than a machine can hold, or nest deeper than a stack."""
    lists = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    keys = ["a0: &a0 {x: 1}"]
    keys += [f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}}}" for n in range(1, 60)]
    merges = ["a0: &a0 {x: 1}"]
    merges += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 60)]
    bombs = ["\n".join(lines) + "\n" for lines in (lists, keys, merges)]
    # The same within a key that the study has.
    inside = "pathvars:\n" + "".join(f"  {line}\n" for line in lists)
    return (
        *bombs,
        inside,
        "x: " + "[" * 1500,
        "x: " + "{a: " * 1000,
        "- " * 1500,
        "x: " + "9" * 6000,
    )


@st.composite
def yaml_texts(draw: st.DrawFn, good: str) -> bytes:
    """A study file: its content mutated, or YAML's own tricks around it, or its bytes."""
    kind = draw(st.sampled_from(["content"] * 6 + ["trick", "bytes"]))
    if kind == "trick":
        return draw(st.sampled_from(YAML_TRICKS)).format(good).encode("utf-8", "surrogatepass")
    if kind == "bytes":
        return draw(mutated_bytes(good.encode()))
    content = draw(mutated(yaml.safe_load(good)))
    try:
        return yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False).encode()
    except UnicodeEncodeError:
        # The fast dumper writes no halves of surrogate pairs.
        return yaml.safe_dump(content, sort_keys=False).encode()


@st.composite
def json_texts(draw: st.DrawFn, good: Any) -> bytes:
    """A JSON file: its content mutated, or its bytes."""
    if draw(st.integers(0, 5)) == 0:
        return draw(mutated_bytes(json.dumps(good).encode()))
    content = draw(mutated(good))
    return json.dumps(plain(content)).encode()


def plain(content: Any) -> Any:
    """Content as JSON holds it: keys are texts, and numbers are not endless."""
    if isinstance(content, dict):
        return {str(plain(key)): plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [plain(value) for value in content]
    return 2**200 if isinstance(content, int) and abs(content) > 2**200 else content


JSON_TRICKS = (
    b"",
    b" ",
    b"null",
    b"true",
    b"3",
    b'"x"',
    b"[]",
    b"{}",
    b"[1]",
    b"{",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"NaN",
    b"-Infinity",
    b'{"a": 1e999}',
    b'{"a": ' + b"9" * 6000 + b"}",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b'{"a": 1, "a": 2}',
    b'{"a": "\\ud800"}',
    b'{"provenance": "\\ud800"}',
    b"\0",
)
"""What a JSON file can hold that is no manifest."""


@st.composite
def mutated_bytes(draw: st.DrawFn, good: bytes, *, most: int = 3) -> bytes:
    """Bytes with some cut out, flipped or put in, cut short, or in another encoding."""
    content = good
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, len(content)))
        action = draw(st.sampled_from(["insert", "cut", "truncate", "flip", "repeat", "recode"]))
        if action == "insert":
            new = draw(st.binary(max_size=6) | st.sampled_from(_INSERTED))
            content = content[:start] + new + content[start:]
        elif action == "cut":
            content = content[:start] + content[start + draw(st.integers(1, 40)) :]
        elif action == "truncate":
            content = content[:start]
        elif action == "repeat":
            content = content[:start] + content[max(0, start - 60) : start] + content[start:]
        elif action == "flip" and start < len(content):
            flipped = content[start] ^ (1 << draw(st.integers(0, 7)))
            content = content[:start] + bytes([flipped]) + content[start + 1 :]
        elif action == "recode":
            encoding = draw(st.sampled_from(["utf-16", "utf-32", "latin-1", "koi8-r", "utf-8-sig"]))
            content = content.decode("utf-8", "replace").encode(encoding, "replace")
    return content


_INSERTED = (
    b"\t",
    b"\n",
    b"\r",
    b"\r\n",
    b'"',
    b"'",
    b"|",
    b"\0",
    b"\x1b[2J",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\xe2\x80\xa8",
    b"\x85",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b",",
    b"#",
    b"-",
    b"9" * 5000,
)


@st.composite
def tables(draw: st.DrawFn, good: str, separator: str = "\t") -> bytes:
    """A table: cells, rows or columns mutated, or its bytes."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mutated_bytes(good.encode()))
    rows = [line.split(separator) for line in good.splitlines()]
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(rows) - 1))
        row = rows[number]
        place = draw(st.integers(0, max(0, len(row) - 1)))
        action = draw(
            st.sampled_from(["cell"] * 4 + ["drop cell", "repeat row", "drop row", "swap"])
        )
        if action == "cell" and row:
            row[place] = str(draw(_CELLS))
        elif action == "drop cell" and row:
            del row[place]
        elif action == "repeat row":
            rows.insert(number, list(row))
        elif action == "drop row" and len(rows) > 1:
            del rows[number]
        elif action == "swap" and row:
            other = rows[draw(st.integers(0, len(rows) - 1))]
            row[place] = other[min(place, len(other) - 1)] if other else ""
    text = "\n".join(separator.join(row) for row in rows)
    return text.encode("utf-8", "surrogatepass")


_CELLS = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(["9" * 4000, "9" * 5000, "-1", "1.5", "NaN", "inf", "1e3", "٣", "²", "0x1"]),
    st.sampled_from(
        ["pretrain:small", "pretrain:", "pretrain:none", "./weights/early", "org/name"]
    ),
    st.text(max_size=8),
    st.integers(-3, 10**20).map(str),
)


def assert_one_line(error: StudyError, *words: str) -> None:
    """Check that an error is one line that a terminal can show, and names some words."""
    message = str(error)
    assert message.isprintable()
    for word in words:
        assert word in message
