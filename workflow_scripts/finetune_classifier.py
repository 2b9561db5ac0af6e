"""Fine-tune a checkpoint to classify posts: a fresh head on the last token, all weights trained.

Weights and tokenizer are written into `weights/` beside the manifest. An interrupted run goes on
after the last epoch that it kept under `--resume-dir`.
"""

from dataclasses import asdict
from pathlib import Path

from glossogenesis.corpora.posts import read_posts
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.device import resolve_device
from glossogenesis.models.manifest import (
    CLASSIFIER_SOURCE,
    CheckpointManifest,
    describe_checkpoint,
)
from glossogenesis.robustness.classifier import fresh_classifier, save_classifier
from glossogenesis.robustness.finetuning import (
    Device,
    TrainedEpoch,
    finetune,
    remove_states,
    training_table,
)
from glossogenesis.robustness.tokenised_posts import check_fit, labelled_posts
from glossogenesis.storage.provenance import settings_digest
from glossogenesis.storage.tables import write_table
from glossogenesis.study.robustness import ClassifierSettings
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the weights, the training table and, last, the manifest of one classifier."""
    arguments = program_arguments(
        __doc__,
        checkpoint={"help": "manifest of the checkpoint"},
        corpus={"help": "manifest of the tokenised posts"},
        posts={"help": "table of posts"},
        resume_dir={"help": "folder for the state of an unfinished run, of this job alone"},
        batch_size={"type": int, "help": "held-out posts in one forward pass"},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"help": "manifest.json; weights/ is written beside it"},
        training={"help": "table of losses and scores by epoch"},
    )
    settings = ClassifierSettings.model_validate(arguments.settings["classifier"])
    seed = arguments.settings["seed"]
    device = Device(
        name=resolve_device(arguments.device),
        dtype=arguments.settings["dtype"],
        evaluation_batch=arguments.batch_size,
    )
    checkpoint = CheckpointManifest.read(arguments.checkpoint)
    corpus = TokenisedCorpus.read(arguments.corpus)
    posts = read_posts(arguments.posts)
    checkpoint.check_tokenizer(corpus.tokenizer_digest, arguments.corpus)
    train, held_out = (labelled_posts(corpus, posts, split) for split in ("train", "held_out"))
    model = fresh_classifier(checkpoint.location, posts.labels, pad_id=corpus.pad_id, seed=seed)
    for split in (train, held_out):
        check_fit(model.config, split, f"{checkpoint.model} {checkpoint.checkpoint}")
    provenance = provenance_of(
        arguments,
        "classifier",
        {
            "checkpoint": arguments.checkpoint,
            "corpus": arguments.corpus,
            "posts": arguments.posts,
        },
        **checkpoint.origin,
        seed=seed,
        dtype=device.computes_in,
        device=device.name,
        facts={"labels": len(posts.labels), "train": len(train), "held_out": len(held_out)},
    )
    epochs = finetune(
        model,
        train,
        held_out,
        settings,
        seed=seed,
        device=device,
        state_folder=arguments.resume_dir / settings_digest(asdict(provenance)),
        on_epoch=report,
    )
    arguments.output.unlink(missing_ok=True)
    weights = arguments.output.parent / "weights"
    save_classifier(weights, model, Path(checkpoint.tokenizer_folder), provenance)
    write_table(arguments.training, training_table(epochs), provenance)
    describe_checkpoint(
        CheckpointLocation(str(weights)),
        model=checkpoint.model,
        checkpoint=checkpoint.checkpoint,
        source=CLASSIFIER_SOURCE,
        provenance=asdict(provenance),
    ).write(arguments.output)
    remove_states(arguments.resume_dir)


def report(epoch: TrainedEpoch) -> None:
    """Print one line for the log."""
    print(
        f"epoch {epoch.epoch}, step {epoch.step}: training loss {epoch.train_loss:.4f}, held-out "
        f"loss {epoch.held_out_loss:.4f}, accuracy {epoch.accuracy:.4f}, macro F1 "
        f"{epoch.macro_f1:.4f}",
        flush=True,
    )


if __name__ == "__main__":
    run_program(main)
