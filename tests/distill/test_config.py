"""Every setting has its range and is refused in one line; the shipped configurations say what their heads claim."""

import dataclasses

import pytest

from s3prl_dd.config import CONFIGS, load_config
from s3prl_dd.distill.config import DistillConfig, Lambdas
from s3prl_dd.errors import UserError

DISTILLER = sorted(path.stem for kind in ("gan_*", "ablation_*", "gaussian") for path in CONFIGS.glob(f"{kind}.yaml"))


@pytest.mark.parametrize("word, expected", [
    ("lambdas.x=nan", "unknown key 'lambdas.x'"),
    ("lambdas.mmd=nan", "lambdas.mmd: expected a finite number"),
    ("lambdas.mmd=inf", "lambdas.mmd: expected a finite number"),
    ("lambdas.diversity=-0.1", "lambdas.diversity: expected greater than or equal to 0"),
    ("lambdas.diverstiy=1", "Did you mean 'diversity'?"),
    ("ema=1.5", "ema: expected less than 1"),
    ("tau=-1", "tau: expected greater than 0"),
    ("generator_lr=-1", "generator_lr: expected greater than 0"),
    ("critic_lr=0", "critic_lr: expected greater than 0"),
    ("betas=[0.9]", "betas"),
    ("betas=[0,0.9,0.9]", "betas"),
    ("betas=[0,1]", "betas"),
    ("softmax_heads=-3", "softmax_heads: expected greater than or equal to 1"),
    ("eval_heads=0", "eval_heads: expected greater than or equal to 1"),
    ("privacy=1.5", "privacy: expected less than or equal to 1"),
    ("privacy=-0.1", "privacy: expected greater than or equal to 0"),
    ("teacher_folds=1", "teacher_folds: 1, expected 0, or 2 or more"),
    ("teacher_hears=dev", "teacher_hears: expected 'speech' or 'samples'"),
    ("steps=0", "steps: expected greater than or equal to 1"),
    ("steps=1.5", "steps: expected a valid integer"),
    ("batch=true", "batch: expected a number"),
    ("seed=1000000000000000000000", "seed: expected less than"),
    ("seed=-1", "seed: expected greater than or equal to 0"),
    ("network.dim=5", "unknown key 'network.dim'"),
    ("network.classes=3", "unknown key 'network.classes'"),
    ("network.frames=100000", "network.frames: expected less than or equal to"),
    ("schedule=linear", "unknown key 'schedule'"),
    ("framing=repeat", "framing: expected 'resample' or 'crop'"),
    ("feature_matching=mean", "feature_matching: expected 'class' or 'sample'"),
    ("softmax_pairing=random", "softmax_pairing: expected 'label' or 'assignment'"),
    ("precision=float16", "precision: expected 'float32' or 'bfloat16'"),
])
def test_refused_in_one_line(word, expected):
    with pytest.raises(UserError) as refused:
        load_config(DistillConfig, "gan_1d", [word])
    assert expected in str(refused.value) and "\n" not in str(refused.value)


def test_whole_numbers_in_other_words():
    config = load_config(DistillConfig, "gan_1d", ["steps=1e3", "generator_lr=1e-4", "betas=[0.5,0.9]"])
    assert config.steps == 1000 and isinstance(config.steps, int)
    assert config.generator_lr == 1e-4 and config.betas == (0.5, 0.9)


def test_terms_that_are_not_named_weigh_nothing_and_scores_always_one():
    config = load_config(DistillConfig, None, ["lambdas.diversity=2"])
    assert config.weights == {"critic_score": 1, "generator_score": 1, **dataclasses.asdict(Lambdas(diversity=2))}
    assert config.weights["diversity"] == 2 and sum(config.weights.values()) == 4


def test_what_needs_a_pool():
    needs = {(teacher, matching): DistillConfig(teacher=teacher, lambdas=Lambdas(softmax_matching=matching)).needs_pool
             for teacher in (False, True) for matching in (0, 0.5)}
    assert needs == {(False, 0): False, (False, 0.5): True, (True, 0): True, (True, 0.5): True}
    assert not DistillConfig(teacher_folds=2).needs_pool  # it trains heads of its own


@pytest.mark.parametrize("config, words", [("gan_1d", ["calibrate=false"]), ("gan_att", []),
                                           ("gaussian", ["calibrate=true"])])
def test_privacy_needs_a_calibration(config, words):
    with pytest.raises(UserError, match="privacy: 1 is for calibrated GANs") as refused:
        load_config(DistillConfig, config, ["privacy=1", *words])
    assert "\n" not in str(refused.value)
    assert load_config(DistillConfig, "gan_1d", ["privacy=1"]).privacy == 1


def test_every_setting_is_documented():
    """The line that help shows; the paper's part or our choice is said where a number is open."""
    from pydantic import TypeAdapter

    for cls in (DistillConfig, Lambdas):
        schema = TypeAdapter(cls).json_schema()
        schema = schema if "properties" in schema else schema["$defs"][cls.__name__]
        for name, item in schema["properties"].items():
            assert len(item.get("description", "")) > 20, f"{cls.__name__}.{name}"


# the shipped ones


@pytest.mark.parametrize("name", DISTILLER)
def test_shipped_configurations_load(name):
    config = load_config(DistillConfig, name)
    assert config.network.architecture == "gaussian" or config.lambdas.gradient_penalty == 10


def test_configurations_of_the_paper():
    for name in ("gan_cnn", "gan_att", "gan_cnn_small", "gan_att_small"):
        config = load_config(DistillConfig, name)
        assert config.network.architecture == name[:7] and not config.network.utterance_branch
        assert (config.feature_matching, config.softmax_pairing, config.betas) == ("sample", "label", (0.0, 0.9))
        assert not config.teacher and not config.calibrate and not config.lambdas.mmd
        terms = ("critic_class", "feature_matching", "generator_class", "softmax_matching", "diversity")
        assert all(config.weights[term] > 0 for term in terms)
    assert load_config(DistillConfig, "gan_cnn").network.channels == 256
    assert load_config(DistillConfig, "gan_att").network.channels == 128


def test_ablations_differ_from_their_base_in_one_or_two_weights():
    base = load_config(DistillConfig, "ablation_both")
    assert not base.calibrate
    for name, off in (("ablation_baseline", {"softmax_matching", "diversity"}), ("ablation_sml", {"diversity"}),
                      ("ablation_div", {"softmax_matching"})):
        config = load_config(DistillConfig, name)
        assert {term for term, weight in base.weights.items() if config.weights[term] != weight} == off
        assert all(config.weights[term] == 0 for term in off)
        assert dataclasses.replace(config, lambdas=base.lambdas) == base
