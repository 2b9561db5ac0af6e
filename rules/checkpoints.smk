"""
This part of the workflow brings checkpoints into place.

REQUIRED INPUTS:
    the checkpoint sheet; for `pretrain:NAME`, the lexicon or the text files of that pretraining, and
    the checkpoint that it continues
OUTPUTS:
    <results>/pretraining/{pretraining}/manifest.json             what was trained, with its weights beside it
    <results>/checkpoints/{model}/{checkpoint}/manifest.json      where a checkpoint's files lie
    <results>/checkpoints/{model}/{checkpoint}/removed.json       which downloads were removed
    beside these, no outputs of rules: <results>/revisions/ (resolved commits), <results>/downloads/

STEPS:
    pretrain_model     trains a model on generated or given text and saves its checkpoints
    fetch_checkpoint   finds or downloads one checkpoint and records its revision and digests
    remove_download    removes downloaded weights that nothing of the study needs any more
"""


rule pretrain_model:
    input:
        lexicon=pretraining_lexicon,
        text=pretraining_text,
        start=pretraining_start,
    output:
        manifest="<results>/pretraining/{pretraining}/manifest.json",
        training="<results>/pretraining/{pretraining}/training.parquet",
    log:
        "<logs>/pretrain_model/{pretraining}.log",
    benchmark:
        "<benchmarks>/pretrain_model/{pretraining}.tsv"
    # Much waits for what is trained first, and it takes the longest: before two fetches at a time.
    priority: 100
    conda:
        "../envs/models.yaml"
    threads: pretraining_threads
    resources:
        gpu=lambda wildcards: costs.pretraining_cost(study, wildcards.pretraining).gpus,
        mem_mb=memory_of(costs.pretraining_cost, "pretraining"),
        runtime=runtime_of(costs.pretraining_cost, "pretraining"),
        disk_mb=disk_of(costs.pretraining_cost, "pretraining"),
        study=study.name,
        device=pretraining_device,
    params:
        script=program("pretrain_model"),
        code=code_of("pretrain_model"),
        settings=settings_of(stages_concepts.pretrain_settings, "pretraining"),
        resume_dir=resume_dir,
    message:
        "Pretraining {wildcards.pretraining}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --lexicon {input.lexicon:q} --start {input.start:q} --resume-dir {params.resume_dir:q} --threads {threads}"
        " --device {resources.device}"
        " --output {output.manifest:q} --training {output.training:q} > {log:q} 2>&1"


rule fetch_checkpoint:
    input:
        pretraining=checkpoint_inputs,
    output:
        manifest="<results>/checkpoints/{model}/{checkpoint}/manifest.json",
    log:
        "<logs>/fetch_checkpoint/{model}/{checkpoint}.log",
    benchmark:
        "<benchmarks>/fetch_checkpoint/{model}/{checkpoint}.tsv"
    priority: fetching_priority
    conda:
        "../envs/models.yaml"
    resources:
        mem_mb=memory_of(costs.checkpoint_cost, "model"),
        runtime=runtime_of(costs.checkpoint_cost, "model"),
        disk_mb=disk_of(costs.checkpoint_cost, "model"),
        study=study.name,
        hub=study.settings.hub.mode,
    params:
        script=program("fetch_checkpoint"),
        code=code_of("fetch_checkpoint"),
        settings=settings_of(stages_concepts.checkpoint_settings, "model", "checkpoint"),
    message:
        "Fetching {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --model {wildcards.model:q} --checkpoint {wildcards.checkpoint:q} --hub {resources.hub}"
        " --pretraining {input.pretraining:q} --output {output.manifest:q} > {log:q} 2>&1"


rule remove_download:
    input:
        checkpoint=checkpoint_manifest,
        made=made_from_weights,
    output:
        record="<results>/checkpoints/{model}/{checkpoint}/removed.json",
    log:
        "<logs>/remove_download/{model}/{checkpoint}.log",
    benchmark:
        "<benchmarks>/remove_download/{model}/{checkpoint}.tsv"
    priority: 20
    conda:
        "../envs/models.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
        study=study.name,
    params:
        script=program("remove_download"),
        code=code_of("remove_download"),
        settings="{}",
        downloads=Path(results) / "downloads",
    message:
        "Removing the downloaded weights of {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --downloads {params.downloads:q}"
        " --output {output.record:q} > {log:q} 2>&1"
