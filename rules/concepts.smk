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
        checkpoint=checkpoint_manifest,
        prompts="<results>/prompts/{model}/translation.parquet",
    output:
        states="<results>/concepts/{model}/{checkpoint}/states.safetensors",
    log:
        "<logs>/extract_states/{model}/{checkpoint}.log",
    benchmark:
        "<benchmarks>/extract_states/{model}/{checkpoint}.tsv"
    conda:
        "../envs/models.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(costs.states_cost, "model"),
        runtime=runtime_of(costs.states_cost, "model"),
        disk_mb=disk_of(costs.states_cost, "model"),
        study=study.name,
        batch_size=model_setting("batch_size"),
        device=model_setting("device"),
    params:
        script=program("extract_states"),
        code=code_of("extract_states"),
        settings=settings_of(stages_concepts.states_settings, "model"),
    message:
        "Extracting source states of {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --prompts {input.prompts:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.states:q} > {log:q} 2>&1"


rule patch_translations:
    input:
        checkpoint=checkpoint_manifest,
        prompts="<results>/prompts/{model}/translation.parquet",
        states="<results>/concepts/{model}/{checkpoint}/states.safetensors",
        lexicon=lexicon_input,
    output:
        patching="<results>/concepts/{model}/{checkpoint}/patching.parquet",
    log:
        "<logs>/patch_translations/{model}/{checkpoint}.log",
    benchmark:
        "<benchmarks>/patch_translations/{model}/{checkpoint}.tsv"
    conda:
        "../envs/models.yaml"
    threads: model_setting("threads")
    resources:
        gpu=model_setting("gpus"),
        mem_mb=memory_of(costs.patching_cost, "model"),
        runtime=runtime_of(costs.patching_cost, "model"),
        disk_mb=disk_of(costs.patching_cost, "model"),
        study=study.name,
        batch_size=model_setting("batch_size"),
        device=model_setting("device"),
    params:
        script=program("patch_translations"),
        code=code_of("patch_translations"),
        settings=settings_of(stages_concepts.patching_settings, "model"),
    message:
        "Patching translations of {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --prompts {input.prompts:q} --states {input.states:q}"
        " --lexicon {input.lexicon:q} --batch-size {resources.batch_size}"
        " --device {resources.device} --threads {threads} --output {output.patching:q} > {log:q} 2>&1"
