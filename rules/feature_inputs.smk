"""
Says which artifacts each job of the features study reads; nothing is computed here.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""


def corpus_text(wildcards):
    """Return the user's own files of a corpus, none where it has none."""
    text = study.settings.corpora[wildcards.corpus].text
    by_language = text.files.values() if text.kind == "files" else ()
    return [study.path(path) for paths in by_language for path in paths]


def corpus_lexicon(wildcards):
    """Return the lexicon where a corpus is generated from it, or nothing."""
    kind = study.settings.corpora[wildcards.corpus].text.kind
    return lexicon_input(wildcards) if kind == "demo" else []


@with_signature
def study_corpus(wildcards):
    """Return the features study's corpus with the tokenizer of the model."""
    tokenizer = study.tokenizer_of(wildcards.model)
    return made("prepare_corpus", corpus=study.features.corpus, tokenizer=tokenizer)


def last_checkpoint(wildcards):
    """Return the model's last checkpoint in the features study."""
    last = study.feature_checkpoints(wildcards.model)[-1]
    return made("fetch_checkpoint", checkpoint=last)


def activations_of(layers):
    """Return the activation caches of some layers."""
    return made("extract_activations", layers=layers, corpus=study.features.corpus)


@cache
def earlier_checkpoints(model):
    """Return each checkpoint's predecessor in the features study, None for the first."""
    names = study.feature_checkpoints(model)
    return dict(zip(names, (None, *names)))


def earlier_checkpoint(wildcards):
    """Return the checkpoint before this one in the features study, None for the first."""
    return earlier_checkpoints(wildcards.model)[wildcards.checkpoint]


def made_earlier(stage, layers):
    """Return an input function: what the same job of the checkpoint before this one made."""
    return with_signature(
        lambda wildcards: made(
            stage, layers=layers, checkpoint=earlier_checkpoint(wildcards)
        )
    )


def earlier_saes(layers):
    """Return an input function: what warm starts of some layers begin with, or nothing."""
    earlier_weights = made_earlier("train_saes", layers)

    def saes(wildcards):
        name, _ = study.features.trained[wildcards.sae]
        is_first = earlier_checkpoint(wildcards) is None
        if not study.features.saes[name].warm_start or is_first:
            return []
        return earlier_weights(wildcards)

    return saes


def weights_of_all_seeds(layers):
    """Return an input function: autoencoders of one kind, layer by layer with all its seeds."""
    return lambda wildcards: [
        path
        for layer in layers
        for name, (of, _) in study.features.trained.items()
        if of == wildcards.sae
        for path in made("train_saes", layers=[layer], sae=name)
    ]


@with_signature
def own_vectors(wildcards):
    """Return the user's own file of token vectors, or nothing."""
    path = jobs_features.embedding_file(study)
    return [path] if path else []
