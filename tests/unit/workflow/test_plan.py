"""What `glossogenesis plan` makes of a dry run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from glossogenesis.exceptions import StudyError
from glossogenesis.inspection.page import plan_page, time_in_words
from glossogenesis.study.loading import load_study
from glossogenesis.study.study import Study
from glossogenesis.workflow import costs
from glossogenesis.workflow import plan as planning
from glossogenesis.workflow.plan import Job, disk_warnings, plan_jobs, read_jobs
from glossogenesis.workflow.registry import STAGES

STUDY = """\
study: two
checkpoints: sheet.tsv
lexicon: {path: lexicon.tsv, limit: 100}
languages:
  en: {endonym: English, script: Latin, group: pivot, seen: true}
  es: {endonym: Español, script: Latin, group: seen, seen: true}
  ru: {endonym: Русский, script: Cyrillic, group: seen, seen: true}
  fi: {endonym: Suomi, script: Latin, group: seen, seen: true}
models:
  own: {gpus: 0}
  hub: {dtype: bfloat16, parameters: 7.0e+9, gpus: 2}
pretrain:
  own:
    text: {kind: demo, phases: {1: {pairs: all}}}
    steps: {1: 100}
    saved_steps: [0, 100]
concepts:
  items: 20
  target_pairs: [[es, en]]
"""
SHEET = """\
model\tcheckpoint\tstep\tsource
own\tfirst\t0\tpretrain:own
own\tlast\t100\tpretrain:own
hub\tmain\t0\torg/model
"""
SUMMARY = """\
output_file\tdate\trule\tlog-file(s)\tstatus\tplan
results/tables/concepts_accuracy.parquet\t-\ttabulate_concepts\t-\tmissing\tupdate pending
results/tables/concepts_accuracy.csv\t-\ttabulate_concepts\t-\tmissing\tupdate pending
results/concepts/own/last/states.safetensors\tFri\textract_states\tlog\tok\tno update
results/concepts/own/first/states.safetensors\tFri\textract_states\tlog\tok\tupdate pending
results/concepts/hub/main/states.safetensors\t-\textract_states\t-\tmissing\tupdate pending
results/checkpoints/hub/main/manifest.json\t-\tfetch_checkpoint\t-\tmissing\tupdate pending
results/pretraining/own/manifest.json\tFri\tpretrain_model\tlog\tok\tno update
results/pretraining/own/training.parquet\t-\tpretrain_model\tlog\tmissing\tupdate pending
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    (tmp_path / "sheet.tsv").write_text(SHEET, encoding="utf-8")
    return load_study(tmp_path / "study.yaml")


@pytest.fixture
def jobs() -> list[Job]:
    return read_jobs(SUMMARY, Path("results"))


def job(rule: str, is_pending: bool = True, **setup: str) -> Job:
    return Job(STAGES[rule], setup, is_pending)


def states_of(model: str, checkpoint: str, is_pending: bool = True) -> Job:
    return job("extract_states", is_pending, model=model, checkpoint=checkpoint)


def test_outputs_with_equal_wildcards_are_one_job_that_is_pending_if_one_of_them_is(
    jobs: list[Job],
):
    assert jobs == [
        job("tabulate_concepts"),
        states_of("own", "last", is_pending=False),
        states_of("own", "first"),
        states_of("hub", "main"),
        job("fetch_checkpoint", model="hub", checkpoint="main"),
        job("pretrain_model", pretraining="own"),
    ]


def test_a_job_of_many_layers_is_one_job_and_knows_its_autoencoder():
    header = "output_file\tdate\trule\tlog-file(s)\tstatus\tplan\n"
    files = [
        ("extract_activations_1", "activations/own/last/text/layer_{layer}/manifest.json"),
        ("train_saes", "sae/own/last/layer_{layer}/topk/cfg.json"),
        ("train_saes", "sae/own/last/layer_{layer}/topk/training.parquet"),
    ]
    rows = [
        f"results/{path.format(layer=layer)}\t-\t{rule}\t-\tmissing\tupdate pending\n"
        for rule, path in files
        for layer in (0, 3)
    ]
    extraction, training = read_jobs(header + "".join(rows), Path("results"))
    assert (extraction.stage.name, extraction.layers) == ("extract_activations", 2)
    assert (training.stage.name, training.layers) == ("train_saes", 2)
    assert training.setup == {"model": "own", "checkpoint": "last", "sae": "topk"}


def test_results_elsewhere_are_recognised():
    summary = SUMMARY.replace("results/", "/scratch/me/run/results/")
    jobs = read_jobs(summary, Path("/scratch/me/run/results"))
    assert jobs == read_jobs(SUMMARY, Path("results"))


def test_a_row_a_rule_in_the_order_of_stages(study: Study, jobs: list[Job]):
    plan = plan_jobs(study, jobs)
    assert [(rule.rule, rule.pending, rule.total) for rule in plan.rules] == [
        ("pretrain_model", 1, 1),
        ("fetch_checkpoint", 1, 1),
        ("extract_states", 2, 3),
        ("tabulate_concepts", 1, 1),
    ]
    assert plan.pending == 5


def test_numbers_are_those_of_the_costs_of_pending_jobs(study: Study, jobs: list[Job]):
    own, hub = costs.states_cost(study, "own"), costs.states_cost(study, "hub")
    states = plan_jobs(study, jobs).rules[2]
    assert states.hours == pytest.approx(own.hours + hub.hours)
    assert states.longest_hours == max(own.hours, hub.hours)
    assert states.gpu_hours == pytest.approx(2 * hub.hours)
    assert states.memory_mb == hub.requested_memory_mb()
    assert states.results_bytes == own.disk_bytes + hub.disk_bytes


def test_downloads_are_kept_apart_from_results(study: Study, jobs: list[Job]):
    plan = plan_jobs(study, jobs)
    assert plan.download_bytes == 14_000_000_000
    assert plan.results_bytes == sum(rule.results_bytes for rule in plan.rules)
    assert plan.rules[1].results_bytes == 0


def test_hours_on_processors_are_of_jobs_without_a_gpu(study: Study):
    plan = plan_jobs(study, [states_of("hub", "main"), job("write_prompts", model="hub")])
    assert plan.cpu_hours == pytest.approx(10 / 3600)
    assert plan.gpu_hours > 0


def test_mixed_models_split_a_rule_s_hours_between_gpu_and_processor(study: Study):
    plan = plan_jobs(study, [states_of("hub", "main"), states_of("own", "last")])
    assert plan.cpu_hours == pytest.approx(costs.states_cost(study, "own").hours)


def test_warns_where_a_disk_is_too_small(
    study: Study, jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def with_free(free: float) -> Callable[[Path], SimpleNamespace]:
        return lambda _: SimpleNamespace(free=free)

    plan = plan_jobs(study, jobs)
    folders = (tmp_path / "not" / "yet" / "results", tmp_path / "cache")
    monkeypatch.setattr(shutil, "disk_usage", with_free(1e12))
    assert disk_warnings(plan, *folders) == []
    monkeypatch.setattr(shutil, "disk_usage", with_free(1e9))
    (line,) = disk_warnings(plan, *folders)
    assert "results and downloads will take 14.0 GB" in line
    assert "1.0 GB free" in line
    assert disk_warnings(plan, folders[0], None) == []


def test_download_folder_follows_the_environment(study: Study, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HOME", "/big/hf")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    assert planning.download_folder(study) == Path("/big/hf/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/other")
    assert planning.download_folder(study) == Path("/other")


def test_downloads_that_are_removed_go_to_the_results(study: Study):
    file = study.file
    text = file.read_text(encoding="utf-8")
    file.write_text(f"{text}hub: {{keep_downloads: false}}\n", encoding="utf-8")
    removing = load_study(file)
    assert planning.download_folder(removing) == Path("results/downloads")
    assert any("removed as soon as" in line for line in planning.assumptions(removing))
    assert not any("removed as soon as" in line for line in planning.assumptions(study))


def test_failing_dry_run_is_one_line(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text("this is no workflow", encoding="utf-8")
    with pytest.raises(StudyError, match=r"the dry run of .*study\.yaml failed: ") as raised:
        planning.jobs_of(study)
    assert "\n" not in str(raised.value)


def test_assumptions_name_what_is_guessed(study: Study):
    lines = "\n".join(planning.assumptions(study))
    assert "layers of hub is estimated" in lines
    assert "downloads go to" in lines


def shown(study: Study, jobs: list[Job]) -> str:
    file = StringIO()
    console = Console(file=file, width=120, highlight=False)
    console.print(plan_page("two", plan_jobs(study, jobs), ["it rains"], ["disk too small"]))
    return file.getvalue()


def test_page_has_totals_largest_numbers_and_warnings(study: Study, jobs: list[Job]):
    page = shown(study, jobs)
    assert "Study two, jobs to run: 5" in page
    assert "total" in page
    assert "largest memory" in page
    assert "longest job" in page
    assert "- it rains" in page
    assert "Warning: disk too small" in page


def test_finished_study(study: Study):
    finished = [states_of("own", "last", is_pending=False)]
    assert "no job is left to run" in shown(study, finished)


@pytest.mark.parametrize(
    ("hours", "words"),
    [(10 / 3600, "10 s"), (0.1, "6 min"), (1.5, "90 min"), (30, "30.0 h"), (12345.6, "12,345.6 h")],
)
def test_times(hours: float, words: str):
    assert time_in_words(hours) == words
