"""Remove the downloaded weights of a checkpoint that the study has no more use for.

Only what lies in the study's own folder of downloads is removed. A later job that needs the weights
fetches them again, by the recorded commit.
"""

from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.storage.files import write_json
from glossogenesis.workflow.disk import remove_weights
from glossogenesis.workflow.program import program_arguments, run_program


def main() -> None:
    """Remove the weights and write which they were."""
    arguments = program_arguments(
        __doc__,
        checkpoint={"help": "manifest of the checkpoint"},
        downloads={"help": "the study's folder of downloads"},
        output={},
    )
    manifest = CheckpointManifest.read(arguments.checkpoint, weights=False)
    removed = remove_weights(manifest, arguments.downloads)
    record = {
        "model": manifest.model,
        "checkpoint": manifest.checkpoint,
        "source": manifest.source,
        "commit": manifest.commit,
        "folder": manifest.folder,
        "removed": removed,
    }
    write_json(arguments.output, record)
    print(f"{manifest.folder}: removed {sum(removed.values()):,} bytes of weights")


if __name__ == "__main__":
    run_program(main)
