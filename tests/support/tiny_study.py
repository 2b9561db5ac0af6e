"""A good small study in a folder, for tests that read it or break it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from glossogenesis.study.loading import load_study
from glossogenesis.study.study import Study

WORDS = """\
cat gato kissa кошка
bread pan leipä хлеб
sun sol aurinko солнце
table mesa pöytä стол
water agua vesi вода
hand mano käsi рука
house casa talo дом
milk leche maito молоко
tree árbol puu дерево
book libro kirja книга
fish pez kala рыба
road camino tie дорога
stone piedra kivi камень
apple manzana omena яблоко
night noche yö ночь
snow nieve lumi снег
"""
LANGUAGES = ("en", "es", "fi", "ru")

STUDY = """\
study: tiny
checkpoints: sheet.tsv
lexicon: {path: lexicon.tsv}
languages:
  en: {endonym: English, script: Latin, group: pivot, share: {1: 0.7}}
  es: {endonym: Español, script: Latin, group: seen, share: {1: 0.1}}
  fi: {endonym: Suomi, script: Latin, group: seen, share: {1: 0.1}}
  ru: {endonym: Русский, script: Cyrillic, group: seen, share: {1: 0.1}}
models:
  local: {parameters: 1.0e+5, gpus: 0}
  small: {gpus: 0}
pretrain:
  small:
    text: {kind: demo, phases: {1: {pairs: all}}}
    steps: {1: 8}
    saved_steps: [0, 8]
    model: {vocabulary: 400, hidden: 16, layers: 2, heads: 2, feed_forward: 32}
concepts:
  items: 6
  few_shot: 2
  target_pairs: [[es, en]]
  unpatched_pairs: [[en, en]]
  start_layers: [0, 1]
"""

SHEET = """\
model\tcheckpoint\tstep\ttokens\tphase\tsource\trevision\tsubfolder
local\tearly\t10\t\t1\t./weights/early\t\t
local\tlate\t20\t\t1\t./weights/late\t\t
small\tstart\t0\t0\t1\tpretrain:small\t\t
small\tend\t8\t\t1\tpretrain:small\t\t
"""


def write_tiny_study(folder: Path) -> Path:
    """Write the study, its sheet and its lexicon; return the study file."""
    (folder / "sheet.tsv").write_text(SHEET, encoding="utf-8")
    (folder / "lexicon.tsv").write_text(tiny_lexicon(), encoding="utf-8")
    file = folder / "study.yaml"
    file.write_text(STUDY, encoding="utf-8")
    return file


def tiny_study(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Study:
    """Write the study, with its content changed, and load it."""
    file = write_tiny_study(folder)
    change_study(folder, change)
    return load_study(file)


def change_study(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of the study file."""
    file = folder / "study.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")


def replace(file: Path, old: str, new: str) -> None:
    """Replace a text that stands in a file."""
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def tiny_lexicon() -> str:
    """A lexicon in the project's own format: one word a language, but for one synonym."""
    rows = ["\t".join(("concept", "pos", "category", "hypernym", *LANGUAGES))]
    for line in WORDS.splitlines():
        words = line.split()
        rows.append("\t".join((words[0], "noun", "thing", "thing", *words)))
    return "\n".join(rows).replace("\tgato\t", "\tgato|minino\t") + "\n"
