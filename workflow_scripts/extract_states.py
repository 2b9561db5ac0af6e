"""Extract source states: the residual stream at the query word of every source prompt, all layers.

One forward pass a prompt, once per (concept, language pair); every patched setting averages them.
"""

from glossogenesis.concepts.states import SourceStates, check_finite_states, extract_states
from glossogenesis.exceptions import NotFiniteError
from glossogenesis.models.capture import residual_at
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.storage.provenance import LEFT_OUT
from glossogenesis.storage.tables import read_provenance, read_table
from glossogenesis.storage.tensors import write_tensors
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the source states of one checkpoint."""
    arguments = program_arguments(
        __doc__,
        checkpoint={"help": "manifest of the checkpoint"},
        prompts={},
        batch_size={"type": int},
        device={"type": str},
        output={},
    )
    manifest = CheckpointManifest.read(arguments.checkpoint)
    prompts_tokenizer = read_provenance(arguments.prompts).facts["tokenizer_digest"]
    manifest.check_tokenizer(prompts_tokenizer, arguments.prompts)
    loaded = load_model(
        manifest.location, dtype=arguments.settings["dtype"], device=arguments.device
    )
    states = extract_states(
        read_table(arguments.prompts),
        lambda token_ids, positions, on_batch: residual_at(
            loaded.anatomy,
            token_ids,
            positions,
            batch_size=arguments.batch_size,
            on_batch=on_batch,
        ),
    )
    left_out = {}
    try:
        check_finite_states(
            states.by_pair, f"{manifest.model} {manifest.checkpoint}", arguments.settings["dtype"]
        )
    except NotFiniteError as error:
        if arguments.settings["on_diverged"] == "stop":
            raise
        print(f"Left out: {error}")
        states, left_out = SourceStates([], {}), {LEFT_OUT: str(error)}
    provenance = provenance_of(
        arguments,
        "states",
        {"prompts": arguments.prompts, "checkpoint": arguments.checkpoint},
        **manifest.origin,
        dtype=arguments.settings["dtype"],
        device=loaded.anatomy.device.type,
        facts={"concepts": states.concepts, "axes": ["concept", "layer", "d_model"], **left_out},
    )
    write_tensors(arguments.output, states.by_pair, provenance)


if __name__ == "__main__":
    run_program(main)
