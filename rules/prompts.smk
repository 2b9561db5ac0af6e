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
        checkpoint=first_checkpoint_manifest,
    output:
        prompts="<results>/prompts/{model}/translation.parquet",
    log:
        "<logs>/write_prompts/{model}.log",
    benchmark:
        "<benchmarks>/write_prompts/{model}.tsv"
    conda:
        "../envs/models.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
        study=study.name,
    params:
        script=program("write_prompts"),
        code=code_of("write_prompts"),
        settings=settings_of(stages_concepts.prompts_settings, "model"),
    message:
        "Writing prompts for {wildcards.model}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --model {wildcards.model:q} --lexicon {input.lexicon:q} --checkpoint {input.checkpoint:q}"
        " --output {output.prompts:q} > {log:q} 2>&1"
