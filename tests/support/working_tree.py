"""A copy of the repository with a small study in it, and how tests run Snakemake there."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.warm_python import warm_python

REPOSITORY = Path(__file__).parents[2]
COPIED = ("Snakefile", "config.yaml", "rules", "workflow_scripts", "resources", "envs", "slurm")

SMALL_STUDY = """\
study: small
checkpoints: small.tsv
lexicon: {path: resources/demo/lexicon.tsv, limit: 40}
languages:
  en: {endonym: English, script: Latin, group: pivot, share: {1: 0.4, 2: 0.25}}
  es: {endonym: Español, script: Latin, group: seen, share: {1: 0.2, 2: 0.25}}
  ru: {endonym: Русский, script: Cyrillic, group: seen, share: {1: 0.2, 2: 0.25}}
  fi: {endonym: Suomi, script: Latin, group: seen, share: {1: 0.2, 2: 0.25}}
models:
  tiny: {batch_size: 64, gpus: 0, threads: 1}
pretrain:
  tiny:
    text: {kind: demo, phases: {1: {pairs: pivot}, 2: {pairs: all}}}
    steps: {1: 4, 2: 4}
    saved_steps: [0, 4, 6, 8]
    model: {vocabulary: 400, hidden: 16, layers: 2, heads: 2, feed_forward: 32}
    batch: 4
    context: 64
    tokenizer_characters: 20000
concepts:
  items: 6
  few_shot: 2
  space_variants: false
  target_pairs: [[es, en], [en, ru]]
  unpatched_pairs: [[en, en]]
"""

FEATURES_STUDY = """\
study: small-features
checkpoints: small.tsv
lexicon: {path: resources/demo/lexicon.tsv, limit: 40}
languages:
  en: {endonym: English, script: Latin, group: pivot, share: {1: 0.5, 2: 0.5}}
  ru: {endonym: Русский, script: Cyrillic, group: seen, share: {1: 0.5, 2: 0.5}}
models:
  tiny: {batch_size: 64, gpus: 0, threads: 1, layers: all}
pretrain:
  tiny:
    text: {kind: demo, phases: {1: {pairs: pivot}, 2: {pairs: all}}}
    steps: {1: 4, 2: 4}
    saved_steps: [0, 4, 6, 8]
    model: {vocabulary: 400, hidden: 16, layers: 2, heads: 2, feed_forward: 32}
    batch: 4
    context: 64
    tokenizer_characters: 20000
corpora:
  documents:
    text: {kind: demo, languages: [en, ru]}
    train_tokens: 1500
    held_out_tokens: 1000
    held_out_share: 0.4
    context: 32
features:
  corpus: documents
  activations: {window: 1024}
  saes:
    topk:
      latents: 32
      k: 4
      batch_size: 256
      learning_rates: [0.001, 0.01]
      warmup_steps: 2
      seeds: [0, 1]
  language: {examples: 5}
  recovery: {contexts: 4}
  sensitivity: {share: [0.8]}
  injection: {layers: [0], targets: [first], draws: 1, contexts: 4}
  resamples: 100
"""

ROBUSTNESS_STUDY = """\
study: small-robustness
checkpoints: robustness.tsv
lexicon: {path: resources/demo/lexicon.tsv, limit: 40}
languages:
  en: {endonym: English, script: Latin, group: pivot, share: {1: 0.5}}
  ja: {endonym: 日本語, script: Japanese, group: seen, share: {1: 0.5}}
models:
  tiny: {batch_size: 64, gpus: 0, threads: 1, layers: all}
  tiny-ja: {batch_size: 64, gpus: 0, threads: 1, layers: all, shares_tokenizer_with: tiny}
pretrain:
  tiny:
    text: {kind: demo, phases: {1: {pairs: all}}}
    steps: {1: 4}
    saved_steps: [4]
    model: {vocabulary: 400, hidden: 16, layers: 2, heads: 2, feed_forward: 32}
    batch: 4
    context: 64
    tokenizer_characters: 20000
  japanese:
    start: {model: tiny, checkpoint: last}
    text:
      kind: posts
      communities: resources/demo/communities.tsv
      spellings: resources/spelling_variants/ja.tsv
      language: ja
    steps: {1: 4}
    saved_steps: [4]
    batch: 4
    context: 64
robustness:
  models: {tiny: last, tiny-ja: last}
  posts:
    text:
      kind: demo
      communities: resources/demo/communities.tsv
      spellings: resources/spelling_variants/ja.tsv
      train_posts: 20
      held_out_posts: 4
    language: ja
  classifier: {max_tokens: 64, epochs: 4, learning_rate: 0.01, batch_size: 8}
  pairs: {number: 20, minimum_cosine: -1}
  circuit: {thresholds: [0.01], ablations: [mean, resample], random_draws: 1, reference_posts: 8}
  saes:
    l1: {preset: fukasawa2026, epochs: 1, batch_size: 128}
  activations: {window: 1024}
  label_features: {top: 5, strongest: 10, shuffles: 1, resamples: 10}
  knockout: {draws: 1}
  variants:
    file: resources/spelling_variants/ja.tsv
    carrier: 「{variant}」という言葉です。
    ks: [5]
  resamples: 100
"""

ROBUSTNESS_SHEET = """\
model\tcheckpoint\tstep\ttokens\tphase\tsource\trevision\tsubfolder
tiny\tlast\t4\t1024\t1\tpretrain:tiny\t\t
tiny-ja\tlast\t4\t1024\t1\tpretrain:japanese\t\t
"""

SMALL_SHEET = """\
model\tcheckpoint\tstep\ttokens\tphase\tsource\trevision\tsubfolder
tiny\tfirst\t0\t0\t1\tpretrain:tiny\t\t
tiny\tmiddle\t4\t1024\t1\tpretrain:tiny\t\t
tiny\tlast\t8\t2048\t2\tpretrain:tiny\t\t
"""

ADDED_ROW = "tiny\tadded\t6\t1536\t2\tpretrain:tiny\t\t\n"


@dataclass(frozen=True)
class WorkingTree:
    """A copy of the repository with the small study in it."""

    root: Path
    study: str = "small.yaml"
    warm: bool = True
    """Whether programs start with the large packages imported."""

    def snakemake(self, *arguments: str, study: str | None = None, status: int = 0) -> str:
        """Run Snakemake on the tree's study, or another; return what it printed."""
        return self.run("snakemake", "--configfile", study or self.study, *arguments, status=status)

    def run(self, module: str, *arguments: str, status: int = 0) -> str:
        """Run a Python module in the tree, which must end with a status; return what it printed."""
        python = warm_python() if self.warm else Path(sys.executable)
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
            "PYTHONPATH": str(self.root / "workflow_scripts"),
        }
        done = subprocess.run(
            [python, "-m", module, *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == status, printed
        return printed

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return the jobs that a dry run plans, by rule, without the target rule."""
        printed = self.snakemake("--dry-run", *arguments)
        if "Nothing to be done" in printed:
            return {}
        table = printed.partition("Job stats:")[2].partition("total")[0]
        jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
        jobs.pop("all", None)
        return jobs

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that stands in a file."""
        file = self.root / path
        content = file.read_text(encoding="utf-8")
        assert old in content, f"{old!r} is not in {path}"
        file.write_text(content.replace(old, new, 1), encoding="utf-8")


def copy_of_repository(root: Path) -> WorkingTree:
    """Copy the working tree's sources and write the small study into it."""
    root.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(
                source, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy2(source, root / name)
    (root / "small.yaml").write_text(SMALL_STUDY, encoding="utf-8")
    (root / "features.yaml").write_text(FEATURES_STUDY, encoding="utf-8")
    (root / "robustness.yaml").write_text(ROBUSTNESS_STUDY, encoding="utf-8")
    (root / "robustness.tsv").write_text(ROBUSTNESS_SHEET, encoding="utf-8")
    (root / "small.tsv").write_text(SMALL_SHEET, encoding="utf-8")
    return WorkingTree(root)
