"""
This part of the workflow finds the components that a classifier decides with, and tests them.

REQUIRED INPUTS:
    classifiers, their predictions and states; the tokenised posts
OUTPUTS:
    <results>/pairs/{model}/{checkpoint}/seed_{seed}/pairs.parquet
    <results>/components/{model}/{checkpoint}/seed_{seed}/effects.parquet
    <results>/circuits/{model}/{checkpoint}/seed_{seed}/circuit.parquet        the components of each threshold
    <results>/circuits/{model}/{checkpoint}/seed_{seed}/ablations.parquet      right answers without the others

STEPS:
    select_pairs       pairs of posts that are alike but for their labels
    patch_components   effect of every attention and MLP output at the last position
    ablate_circuit     sufficiency and necessity of circuits, with random ones beside them
"""


rule select_pairs:
    input:
        predictions=of_each_model("classify_posts", "predictions"),
        states=of_each_model("classify_posts", "states"),
    output:
        **outputs_of("select_pairs"),
    log:
        log_of("select_pairs"),
    benchmark:
        benchmark_of("select_pairs")
    priority: LONGEST_CHAIN
    conda:
        "../envs/saes.yaml"
    resources:
        **resources_of("select_pairs"),
    params:
        **params_of("select_pairs"),
    message:
        "Selecting pairs for {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --predictions {input.predictions:q} --states {input.states:q}"
        " --output {output.pairs:q} > {log:q} 2>&1"


rule patch_components:
    input:
        classifier=made("finetune_classifier"),
        corpus=tokenised_posts,
        pairs=made("select_pairs"),
    output:
        **outputs_of("patch_components"),
    log:
        log_of("patch_components"),
    benchmark:
        benchmark_of("patch_components")
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    threads: threads_of("patch_components")
    resources:
        **resources_of("patch_components"),
    params:
        **params_of("patch_components"),
    message:
        "Patching components of {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --classifier {input.classifier:q} --corpus {input.corpus:q} --pairs {input.pairs:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.effects:q} > {log:q} 2>&1"


rule ablate_circuit:
    input:
        classifier=made("finetune_classifier"),
        corpus=tokenised_posts,
        posts=made("prepare_posts"),
        effects=made("patch_components"),
    output:
        **outputs_of("ablate_circuit"),
    log:
        log_of("ablate_circuit"),
    benchmark:
        benchmark_of("ablate_circuit")
    priority: LONGEST_CHAIN
    conda:
        "../envs/classifiers.yaml"
    threads: threads_of("ablate_circuit")
    resources:
        **resources_of("ablate_circuit"),
    params:
        **params_of("ablate_circuit"),
    message:
        "Ablating circuits of {wildcards.model} {wildcards.checkpoint}, seed {wildcards.seed}"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --classifier {input.classifier:q} --corpus {input.corpus:q} --posts {input.posts:q}"
        " --effects {input.effects:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --output {output.ablations:q} --circuit {output.circuit:q} > {log:q} 2>&1"
