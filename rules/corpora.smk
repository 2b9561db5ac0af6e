"""
This part of the workflow brings text into place for everything that reads activations.

REQUIRED INPUTS:
    the text that `corpora` names (files, a dataset on the Hub, or the lexicon); the manifest of the
    first checkpoint of the model whose tokenizer is used
OUTPUTS:
    <results>/corpora/{corpus}/{tokenizer}/manifest.json     sizes and checksums of the shards beside it
    beside these, no output of a rule: <results>/revisions/{corpus}.json (the resolved commit of a dataset)

STEPS:
    prepare_corpus     splits documents, tokenises them, and cuts them into contexts
"""


rule prepare_corpus:
    input:
        text=corpus_text,
        lexicon=corpus_lexicon,
        checkpoint=first_checkpoint,
    output:
        **outputs_of("prepare_corpus"),
    log:
        log_of("prepare_corpus"),
    benchmark:
        benchmark_of("prepare_corpus")
    conda:
        "../envs/models.yaml"
    threads: threads_of("prepare_corpus")
    resources:
        **resources_of("prepare_corpus"),
    params:
        **params_of("prepare_corpus"),
    message:
        "Preparing corpus {wildcards.corpus} with the tokenizer of {wildcards.tokenizer}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --lexicon {input.lexicon:q} --checkpoint {input.checkpoint:q} --hub {resources.hub}"
        " --threads {threads} --output {output.manifest:q} > {log:q} 2>&1"
