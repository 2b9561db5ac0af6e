"""
This part of the workflow measures when and where a model's languages share concepts.

REQUIRED INPUTS:
    a checkpoint's manifest, the model's prompts, the lexicon
OUTPUTS:
    <results>/concepts/{model}/{checkpoint}/states.safetensors    what the model holds of each concept
    <results>/concepts/{model}/{checkpoint}/patching.parquet      one row an item, setting, start layer

STEPS:
    extract_states       one forward pass a source prompt, all layers
    patch_translations   patches the states into target prompts, generates and scores answers
"""


rule extract_states:
    input:
        checkpoint=made("fetch_checkpoint"),
        prompts=made("write_prompts"),
    output:
        **outputs_of("extract_states"),
    log:
        log_of("extract_states"),
    benchmark:
        benchmark_of("extract_states")
    conda:
        "../envs/models.yaml"
    threads: threads_of("extract_states")
    resources:
        **resources_of("extract_states"),
    params:
        **params_of("extract_states"),
    message:
        "Extracting source states of {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --prompts {input.prompts:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.states:q} > {log:q} 2>&1"


rule patch_translations:
    input:
        checkpoint=made("fetch_checkpoint"),
        prompts=made("write_prompts"),
        states=made("extract_states"),
        lexicon=lexicon_input,
    output:
        **outputs_of("patch_translations"),
    log:
        log_of("patch_translations"),
    benchmark:
        benchmark_of("patch_translations")
    conda:
        "../envs/models.yaml"
    threads: threads_of("patch_translations")
    resources:
        **resources_of("patch_translations"),
    params:
        **params_of("patch_translations"),
    message:
        "Patching translations of {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --prompts {input.prompts:q} --states {input.states:q}"
        " --lexicon {input.lexicon:q} --batch-size {resources.batch_size}"
        " --device {resources.device} --threads {threads} --output {output.patching:q} > {log:q} 2>&1"
