"""Bring one checkpoint into place and record what it is.

A Hub checkpoint is downloaded, a local folder or one that the workflow pretrained is found; either
way the manifest names the files, their sizes and digests, and the resolved commit. The commit that
a branch stood for at first is kept in `revisions/` of the results, and taken again.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from glossogenesis.hub.files import revision_file
from glossogenesis.models.checkpoints import CheckpointLocation, HubAccess
from glossogenesis.models.manifest import describe_checkpoint
from glossogenesis.study.inputs import WORDS_OF_MODES, HubSettings
from glossogenesis.study.pretrain import folder_of_step
from glossogenesis.study.sheet import PRETRAIN_PREFIX
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the manifest of one checkpoint."""
    arguments = program_arguments(
        __doc__,
        model={"type": str},
        checkpoint={"type": str},
        pretraining={"nargs": "?", "default": None, "help": "manifest of what pretrained it"},
        hub={"type": str, "choices": WORDS_OF_MODES, "default": HubSettings().mode},
        output={},
    )
    inputs = {"pretraining": arguments.pretraining} if arguments.pretraining else {}
    provenance = provenance_of(
        arguments, "checkpoint", inputs, model=arguments.model, checkpoint=arguments.checkpoint
    )
    tokenizer = arguments.settings["tokenizer"]
    manifest = describe_checkpoint(
        location(arguments.settings, arguments.pretraining),
        model=arguments.model,
        checkpoint=arguments.checkpoint,
        source=arguments.settings["source"],
        provenance=asdict(provenance),
        tokenizer=CheckpointLocation(tokenizer) if tokenizer else None,
        access=hub_access(
            HubSettings.of_mode(arguments.hub),
            arguments.output,
            arguments.model,
            arguments.checkpoint,
        ),
    )
    manifest.write(arguments.output)


def location(settings: dict[str, Any], pretraining: Path | None) -> CheckpointLocation:
    """Return where the sheet's source leads."""
    source = settings["source"]
    if source.startswith(PRETRAIN_PREFIX) and pretraining is not None:
        return CheckpointLocation(str(folder_of_step(pretraining.parent, settings["step"])))
    return CheckpointLocation(
        source, settings["revision"], settings["subfolder"], settings.get("remote_code")
    )


def hub_access(hub: HubSettings, manifest: Path, model: str, checkpoint: str) -> HubAccess:
    """Return how the Hub is used for the checkpoint of a manifest."""
    results = manifest.parents[3]
    folder = None if hub.keep_downloads else results / "downloads" / model / checkpoint
    return HubAccess(hub.offline, folder, revision_file(results, model, checkpoint))


if __name__ == "__main__":
    run_program(main)
