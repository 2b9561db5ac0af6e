"""Write the input and output vectors of a checkpoint's tokens.

They say which tokens mean the same. Where a model's embeddings are tied, both are equal.
"""

from glossogenesis.exceptions import StudyError
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.storage.tensors import write_tensors
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the token vectors of one checkpoint."""
    arguments = program_arguments(
        __doc__, checkpoint={"help": "manifest of the checkpoint"}, output={}
    )
    manifest = CheckpointManifest.read(arguments.checkpoint)
    dtype = arguments.settings["dtype"]
    anatomy = load_model(manifest.location, dtype=dtype, device="cpu").anatomy
    if anatomy.head is None:
        raise StudyError(
            f"{manifest.folder}: the model has no head and so no output vectors of tokens; give a "
            "checkpoint saved with one"
        )
    # Tied weights share memory, which the file format has no word for.
    vectors = {
        "input": anatomy.embedding.get_parameter("weight"),
        "unembedding": anatomy.head.get_parameter("weight").clone(),
    }
    if not all(bool(tensor.isfinite().all()) for tensor in vectors.values()):
        raise StudyError(
            f"{manifest.model} {manifest.checkpoint}: its vectors of tokens are NaN or infinite, "
            "and say which tokens mean the same at every checkpoint; leave this one out of "
            "`features.checkpoints`, so that the one before is the last"
        )
    provenance = provenance_of(
        arguments,
        "embeddings",
        {"checkpoint": arguments.checkpoint},
        **manifest.origin,
        dtype=dtype,
        device="cpu",
        facts={"axes": ["token", "d_model"], "tokenizer_digest": manifest.tokenizer_digest},
    )
    write_tensors(arguments.output, vectors, provenance)


if __name__ == "__main__":
    run_program(main)
