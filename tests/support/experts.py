"""The two experts, made in this process as S3PRL's Runner makes them."""

from s3prl_dd.config import CONFIGS, read_yaml

ARGUMENTS = {
    "mode": "train", "evaluate_split": "test", "downstream_variant": None, "upstream": "fbank", "upstream_ckpt": None,
    "upstream_model_config": None, "upstream_trainable": False, "upstream_feature_selection": "hidden_states",
    "upstream_layer_selection": None, "upstream_feature_normalize": False, "init_ckpt": None, "seed": 1337,
    "device": "cpu",
}
"""S3PRL's own defaults, and fbank."""


def make_expert(kind, corpus, expdir, datarc=None, upstream_dim=240, upstream_rate=160, **arguments):
    """`datarc` over the shipped configuration, `arguments` over S3PRL's defaults; no corpus: no real data at hand.

    hears_frames: with S3PRL's attentive pooling, in the place of SUPERB's mean over time
    """
    from s3prl_dd.plugin.distilled import DistilledExpert
    from s3prl_dd.plugin.emotion import EmotionExpert

    config = read_yaml(CONFIGS / f"{kind}.yaml")
    values = config["downstream_expert"]["datarc"]
    if arguments.pop("hears_frames", False):
        config["downstream_expert"]["modelrc"]["UtteranceLevel"] = {"pooling": "AttentivePooling"}
    if corpus:
        values.update(root=str(corpus / "audio"), meta_data=str(corpus / "metadata"))
    values.update(num_workers=0, **(datarc or {}))
    expert = {"emotion": EmotionExpert, "distilled_emotion": DistilledExpert}[kind]
    return expert(upstream_dim=upstream_dim, upstream_rate=upstream_rate, expdir=str(expdir),
                  **{**config, **ARGUMENTS, "downstream": kind, **arguments})


def emotion(corpus, expdir, datarc=None, **arguments):
    """An EmotionExpert."""
    return make_expert("emotion", corpus, expdir, datarc, **arguments)


def distilled(corpus, expdir, generator, datarc=None, **arguments):
    """A DistilledExpert on a generator file."""
    datarc = {"generator": str(generator), **(datarc or {})}
    return make_expert("distilled_emotion", corpus, expdir, datarc, **arguments)
