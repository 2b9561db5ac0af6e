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
        **outputs_of("pretrain_model"),
    log:
        log_of("pretrain_model"),
    benchmark:
        benchmark_of("pretrain_model")
    # Much waits for what is trained first, and it takes the longest: before two fetches at a time.
    priority: 100
    conda:
        "../envs/models.yaml"
    threads: threads_of("pretrain_model")
    resources:
        **resources_of("pretrain_model"),
        gpu=pretraining_gpus,
        device=pretraining_device,
    params:
        **params_of("pretrain_model"),
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
        **outputs_of("fetch_checkpoint"),
    log:
        log_of("fetch_checkpoint"),
    benchmark:
        benchmark_of("fetch_checkpoint")
    priority: fetching_priority
    conda:
        "../envs/models.yaml"
    resources:
        **resources_of("fetch_checkpoint"),
    params:
        **params_of("fetch_checkpoint"),
    message:
        "Fetching {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --model {wildcards.model:q} --checkpoint {wildcards.checkpoint:q} --hub {resources.hub}"
        " --pretraining {input.pretraining:q} --output {output.manifest:q} > {log:q} 2>&1"


rule remove_download:
    input:
        checkpoint=made("fetch_checkpoint"),
        made=made_from_weights,
    output:
        **outputs_of("remove_download"),
    log:
        log_of("remove_download"),
    benchmark:
        benchmark_of("remove_download")
    priority: 20
    conda:
        "../envs/models.yaml"
    resources:
        **resources_of("remove_download"),
    params:
        **params_of("remove_download"),
        downloads=Path(results) / "downloads",
    message:
        "Removing the downloaded weights of {wildcards.model} {wildcards.checkpoint}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --checkpoint {input.checkpoint:q} --downloads {params.downloads:q}"
        " --output {output.record:q} > {log:q} 2>&1"
