"""Sections of what a study reads: languages, lexicon, models, corpora and the Hub."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import regex
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from glossogenesis.study.section import IsSource, LanguageCode, Name, PathText, Revision, Section

JAPANESE = "Japanese"
"""Kana and Han together, which is no script of Unicode's own."""

_NO_SCRIPT = ("Common", "Inherited", "Unknown", "Katakana_Or_Hiragana")
_NAMES_OF_FOUR = ("Ahom", "Cham", "Kawi", "Lisu", "Miao", "Modi", "Newa", "Seal", "Thai", "Toto")
"""Scripts whose names are as long as the codes of ISO 15924, which are not taken."""


def _known_script(written: str) -> str:
    """Return a script's name as Unicode writes it, such as `Old_Italic`."""
    name = "_".join(part.capitalize() for part in re.split(r"[ _-]", written.strip()))
    is_code = len(name) == len("Latn") and name not in _NAMES_OF_FOUR
    if name == JAPANESE:
        return name
    try:
        if name in _NO_SCRIPT or is_code or not name.replace("_", "").isalpha():
            raise ValueError
        regex.compile(rf"\p{{Script={name}}}")
    except (ValueError, regex.error):
        raise ValueError(
            "is no script of Unicode; write its name in full, such as Latin, Cyrillic, Japanese, "
            "Han, Thai, Bengali, Georgian or Ethiopic"
        ) from None
    return name


Script = Annotated[str, AfterValidator(_known_script)]
"""A script of Unicode by its name, or `Japanese`."""

SCRIPTS_WITHOUT_SPACES: frozenset[str] = frozenset(
    {JAPANESE, "Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar",
     "Tibetan", "Tai_Tham", "Tai_Viet", "New_Tai_Lue", "Javanese", "Balinese", "Yi", "Tangut",
     "Nushu", "Khitan_Small_Script"}
)  # fmt: skip
"""Scripts in which no space ends a word, so that an answer must equal a word exactly."""

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Budget = Positive | Annotated[dict[LanguageCode, Positive], Field(min_length=1)]

HubId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
"""A repository of the Hub, `organisation/name`."""

WORDS_OF_MODES = tuple(
    f"{network}-{downloads}"
    for network in ("online", "offline")
    for downloads in ("keep", "remove")
)
"""What programs take as `--hub`."""


class LanguageSettings(Section):
    """One language of a study; figures group and colour by these facts."""

    endonym: Annotated[str, Field(min_length=1)]
    """The language's name in itself (`Español`); prompts use it."""
    script: Script
    """Any script of Unicode by its name (`Latin`, `Cyrillic`, `Thai`, `Ethiopic`, ...), or
    `Japanese`, which is kana and Han. Where no space ends a word (Japanese, Han, Thai, Lao, Khmer,
    Myanmar, Tibetan and others), an answer must equal a word."""
    group: str
    """A label by which figures group languages, such as `high-resource` or `unseen`."""
    share: dict[int, Annotated[float, Field(ge=0, le=1)]] = Field(default={})
    """Share of the pretraining text by phase, such as `{1: 0.4, 2: 0.2}`; none where absent. Models
    under `pretrain` are trained on these."""
    seen: bool | None = None
    """Whether pretraining saw the language; where absent, whether some share is above 0."""

    @property
    def is_seen(self) -> bool:
        """Whether the language occurs in any pretraining phase."""
        if self.seen is not None:
            return self.seen
        return any(share > 0 for share in self.share.values())

    @property
    def spaced(self) -> bool:
        """Whether spaces delimit its words."""
        return self.script not in SCRIPTS_WITHOUT_SPACES


class LexiconSettings(Section):
    """Where the lexicon lies, how it is read and which of its concepts are used."""

    path: PathText
    """The file; a relative path counts from the study file's folder."""
    format: Literal["tsv", "multisimlex", "concepticon"] = "tsv"
    """`tsv`: the project's own, one column per language, described in `resources/demo/README.md`;
    `multisimlex`: `translation.csv` of Multi-SimLex; `concepticon`: a concept list of
    Concepticon."""
    pos: Annotated[tuple[str, ...], Field(min_length=1)] = ("noun",)
    """Parts of speech that are used. A list without parts of speech counts as nouns."""
    limit: Annotated[int, Field(ge=2)] | None = None
    """Use only the first so many concepts; all where absent."""
    columns: dict[LanguageCode, str] = Field(default={})
    """Names of columns that are not the format's usual ones, by language."""


class EveryLayer(Section):
    """Layers at a regular distance."""

    every: Annotated[int, Field(ge=1)]
    """Every how many layers one is taken, counted back from the last."""


class ModelSettings(Section):
    """One model; its checkpoints stand in the sheet."""

    label: str | None = None
    """The name that figures print; the model's key where absent."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of weights and activations."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs: `auto` takes a GPU where there is one; `cpu`; `cuda`."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Prompts in one forward pass. It changes speed and memory, not results, and recomputes
    nothing."""
    parameters: Annotated[float, Field(gt=0)] | None = None
    """Number of weights (`1.7e+9`), from which memory, time and disk are planned. Needed unless the
    workflow trains the model."""
    n_layers: Annotated[int, Field(ge=1)] | None = None
    """Number of decoder blocks; the features and robustness studies need it for `layers: all` and
    `every`, unless the workflow trains the model."""
    layers: (
        Literal["all"] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    ) | EveryLayer = "all"
    """Layers that autoencoders are trained on: `all`, a list such as `[0, 5, 11]`, or `{every: 2}`,
    counted back from the last."""
    layers_per_job: Annotated[int, Field(ge=1)] | None = None
    """Layers that one job of the features study does: collects the features of, matches, and trains
    at once where it streams. All where absent; fewer need less memory."""
    shares_tokenizer_with: Name | None = None
    """A model of the sheet with the same tokenizer, so that corpora are tokenised once for both;
    that it is the same is checked."""
    tokenizer: Annotated[str, IsSource] | None = None
    """A Hub id or folder to take the tokenizer from, where checkpoints ship none; a folder begins
    with a dot, a slash or a tilde, and a relative one counts from the study file's."""
    remote_code: HubId | None = None
    """A Hub repository (`organisation/name`) whose own Python code the model may run; all its rows
    must have it as `source`, at full commits. No such code is run where absent. See
    docs/hub.md#code-of-repositories."""
    add_special_tokens: bool = True
    """Whether the tokenizer's own special tokens, such as a start token, open a prompt."""
    gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs that a job of this model asks a cluster for; 0 for a job without one."""
    threads: Annotated[int, Field(ge=1)] = 4
    """Processor threads of a job of this model."""


class CorpusFiles(Section):
    """Text from the user's own files."""

    kind: Literal["files"]
    """Text files of the user's own."""
    files: Annotated[dict[LanguageCode, tuple[PathText, ...]], Field(min_length=1)]
    """Files by language: `.jsonl`, `.ndjson` or `.json` (an object a line), `.parquet` (one row per
    document), or plain text whose documents are separated by empty lines; each but Parquet may be
    compressed (gzip, zstd, bzip2, xz). Relative paths count from the study file's folder."""
    text_column: str = "text"
    """The key or column that holds the text."""
    on_bad_row: Literal["skip", "stop"] = "skip"
    """What to do with a row of JSON lines that cannot be read or has no text under `text_column`:
    `skip` and count it, as rows whose text is null, or `stop`. A file's first row always stops."""
    documents: Literal["paragraphs", "lines"] = "paragraphs"
    """What a document of a plain text file is; `paragraphs`: a block between empty lines; `lines`:
    a line."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the corpus, in the order written."""
        return tuple(self.files)


class CorpusHub(Section):
    """The Parquet files of a dataset on the Hugging Face Hub."""

    kind: Literal["hub"]
    """A dataset on the Hub."""
    dataset: str
    """The dataset's id, such as `wikimedia/wikipedia`."""
    revision: Revision | None = None
    """A branch, tag or commit; the resolved commit is recorded."""
    files: Annotated[dict[LanguageCode, str], Field(min_length=1)]
    """Pattern of each language's Parquet files, such as `20231101.ja/*.parquet`; files are taken in
    the order of their names, only as many as the token budget needs."""
    text_column: str = "text"
    """The column that holds the text."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the corpus, in the order written."""
        return tuple(self.files)


class CorpusDemo(Section):
    """Text of the demo world in one language a document."""

    kind: Literal["demo"]
    """Text generated from the lexicon."""
    languages: Annotated[tuple[LanguageCode, ...], Field(min_length=1)]
    """Languages of the corpus."""
    monolingual: Share = 0.5
    """Share of documents that are running text; the others are lines of words, copied."""
    glossary: Share = 0.3
    """Share of the other documents that are glossaries."""


class CorpusSettings(Section):
    """A corpus: its text, and how it is cut into contexts."""

    text: Annotated[CorpusFiles | CorpusHub | CorpusDemo, Field(discriminator="kind")]
    """Where the text comes from."""
    train_tokens: Budget
    """Tokens of each language to train on: one number for all (balanced), or a number each."""
    held_out_tokens: Budget
    """Tokens of each language to measure with, from other documents."""
    context: Annotated[int, Field(ge=2)] = 1024
    """Tokens of a sequence."""
    fill: Literal["packed", "padded"] = "packed"
    """`packed`: documents follow each other, cut regardless of where they end; `padded`: a document
    a sequence, truncated or padded on the right and masked."""
    drop_first: bool = True
    """Whether the first token of each sequence is left out of everything that is measured or
    trained on: its activation is unlike any other's."""
    held_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the documents that are held out, decided by a hash of each document."""
    seed: int = 0
    """Seed of generated text."""

    @model_validator(mode="after")
    def _budgets_of_all_languages(self) -> CorpusSettings:
        for key in ("train_tokens", "held_out_tokens"):
            budget = getattr(self, key)
            if isinstance(budget, dict) and set(budget) != set(self.text.languages):
                raise ValueError(
                    f"{key} names {', '.join(sorted(budget))}, but the text has "
                    f"{', '.join(sorted(self.text.languages))}; give one number, or one for each"
                )
        return self

    def tokens_of(self, split: Literal["train", "held_out"], language: str) -> int:
        """Return the token budget of a language in a split."""
        budget = self.train_tokens if split == "train" else self.held_out_tokens
        return budget if isinstance(budget, int) else budget[language]


class HubSettings(Section):
    """How files of the Hugging Face Hub are fetched, and what becomes of them.

    Nothing of it changes what is computed, so none of it recomputes anything.
    """

    offline: bool = False
    """Whether only files that are already on this machine are used, and the network never."""
    keep_downloads: bool = True
    """Whether downloads stay in the Hub's cache (`HF_HOME`). Else they go to `results/downloads`,
    and the weights of a checkpoint are removed when all that the study makes from them is there."""

    @property
    def mode(self) -> str:
        """The section as one word, such as `online-keep`."""
        network = "offline" if self.offline else "online"
        return f"{network}-{'keep' if self.keep_downloads else 'remove'}"

    @classmethod
    def of_mode(cls, mode: str) -> HubSettings:
        """Return the section that `mode` is of."""
        network, _, downloads = mode.partition("-")
        return cls(offline=network == "offline", keep_downloads=downloads == "keep")
