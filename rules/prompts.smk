"""
This part of the workflow writes the prompts that a model is tested with.

REQUIRED INPUTS:
    the lexicon; the manifest of the model's first checkpoint, for its tokenizer
OUTPUTS:
    <results>/prompts/{model}/translation.parquet     every prompt with its tokens and patched position

STEPS:
    write_prompts      draws concept pairs and demonstrations, builds and checks every prompt
"""


rule write_prompts:
    input:
        lexicon=lexicon_input,
        checkpoint=first_checkpoint,
    output:
        **outputs_of("write_prompts"),
    log:
        log_of("write_prompts"),
    benchmark:
        benchmark_of("write_prompts")
    conda:
        "../envs/models.yaml"
    resources:
        **resources_of("write_prompts"),
    params:
        **params_of("write_prompts"),
    message:
        "Writing prompts for {wildcards.model}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --model {wildcards.model:q} --lexicon {input.lexicon:q} --checkpoint {input.checkpoint:q}"
        " --output {output.prompts:q} > {log:q} 2>&1"
