"""What a finished study computes again after a change: what the change concerns, and no more."""

import os

from support.working_tree import ADDED_ROW, WorkingTree

AGGREGATES = {"tabulate_concepts": 1, "plot_concepts": 1}


def test_finished_study_has_nothing_to_do(tree: WorkingTree):
    assert "Nothing to be done" in tree.snakemake("--dry-run")


def test_added_row_plans_that_checkpoint_and_the_aggregates(tree: WorkingTree):
    with (tree.root / "small.tsv").open("a", encoding="utf-8") as sheet:
        sheet.write(ADDED_ROW)
    own = {"fetch_checkpoint": 1, "extract_states": 1, "patch_translations": 1}
    assert tree.planned() == {**own, **AGGREGATES}


def test_comment_and_docstring_edited_in_the_library_plans_nothing(tree: WorkingTree):
    tree.edit(
        "workflow_scripts/glossogenesis/concepts/scoring.py",
        "def answer_of(",
        "# Everything after the quote is the next line of the prompt.\ndef answer_of(",
    )
    tree.edit("workflow_scripts/patch_translations.py", '"""Write the', '"""Make and write the')
    assert tree.planned() == {}


def test_changed_expression_plans_its_stage_and_what_follows(tree: WorkingTree):
    tree.edit(
        "workflow_scripts/glossogenesis/concepts/scoring.py",
        "CLOSING_QUOTE = '\"'",
        "CLOSING_QUOTE = '”'",
    )
    assert tree.planned() == {"patch_translations": 3, **AGGREGATES}


def test_changed_writer_plans_nothing(tree: WorkingTree):
    tree.edit(
        "workflow_scripts/glossogenesis/storage/tables.py",
        'compression="zstd"',
        'compression="lz4"',
    )
    assert tree.planned() == {}


def test_every_source_touched_plans_nothing(tree: WorkingTree):
    kept = {"results", ".snakemake"}
    for path in tree.root.rglob("*"):
        if path.relative_to(tree.root).parts[0] not in kept:
            os.utime(path)
    assert tree.planned() == {}


def test_changed_concepts_setting_leaves_pretraining_and_prompts_alone(tree: WorkingTree):
    tree.edit("small.yaml", "items: 6", "items: 6\n  max_new_tokens: 3")
    assert tree.planned() == {"patch_translations": 3, **AGGREGATES}


def test_changed_batch_size_plans_nothing(tree: WorkingTree):
    tree.edit("small.yaml", "batch_size: 64", "batch_size: 16")
    assert tree.planned() == {}


def test_changed_items_plan_prompts_and_what_follows(tree: WorkingTree):
    tree.edit("small.yaml", "items: 6", "items: 5")
    own = {"write_prompts": 1, "extract_states": 3, "patch_translations": 3}
    assert tree.planned() == {**own, **AGGREGATES}


def test_nothing_of_the_demo_study_leaks_into_another(tree: WorkingTree):
    tree.edit("config.yaml", "study: demo", "study: demo\nunknown_key: 1")
    assert tree.planned() == {}


def test_unknown_key_stops_with_one_line_and_keeps_what_is_finished(tree: WorkingTree):
    before = sorted((tree.root / "results").rglob("*"))
    tree.edit("small.yaml", "few_shot: 2", "fewshot: 2")
    printed = tree.snakemake("--cores", "1", status=1)
    assert "small.yaml: unknown key `concepts.fewshot`; did you mean `few_shot`?" in printed
    assert "Traceback" not in printed
    assert sorted((tree.root / "results").rglob("*")) == before
