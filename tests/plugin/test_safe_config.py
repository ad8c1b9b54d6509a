"""What S3PRL evaluates of a configuration: names pass, code does not."""

import copy
from argparse import Namespace

import pytest
import torch
from support.runs import run_launcher, write_head

from s3prl_dd.config import CONFIGS, read_yaml
from s3prl_dd.errors import UserError
from s3prl_dd.plugin.runner import Bridge
from s3prl_dd.plugin.safe_config import check_no_code

CODE = "(lambda: __import__('os').system('touch ran'))()"
PLACES = [
    ("optimizer", "name"), ("scheduler", "name"), ("runner", "eval_dataloaders"),
    ("downstream_expert", "modelrc", "select"), ("downstream_expert", "modelrc", "UtteranceLevel", "pooling"),
]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*emotion*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_pass(path):
    check_no_code(read_yaml(path))


@pytest.mark.parametrize("config", [
    {"optimizer": None, "runner": {"eval_dataloaders": ["dev"]}},
    {"downstream_expert": {"modelrc": {"select": "RNNs", "RNNs": {"module": "LSTM", "sizes": [1], "on": True}}}},
    {"downstream_expert": {"modelrc": {"module": "XVector", "agg_module": "SP", "path": "a/b-c.ckpt", "lr": "1.0e-4"}}},
    {"scheduler": {"name": "linear_schedule_with_warmup"}, "downstream_expert": None},
])
def test_those_of_other_downstreams_too(config):
    check_no_code(config)


def planted(*keys, text=CODE):
    config = copy.deepcopy(read_yaml(CONFIGS / "distilled_emotion.yaml"))
    block = config
    for key in keys[:-1]:
        block = block.setdefault(key, {})
    block[keys[-1]] = text
    return config


@pytest.mark.parametrize("keys", PLACES, ids="-".join)
@pytest.mark.parametrize("text", [CODE, "a[b]", "x if y('z') else w"])
def test_code_is_refused_wherever_it_stands(keys, text):
    with pytest.raises(UserError, match=rf"config\.{keys[0]}\..*expected a name"):
        check_no_code(planted(*keys, text=text))


def test_code_in_a_key_or_a_list_is_refused():
    with pytest.raises(UserError, match="expected a name"):
        check_no_code({"downstream_expert": {"modelrc": {CODE: 1}}})
    with pytest.raises(UserError, match="expected a name"):
        check_no_code({"downstream_expert": {"modelrc": {"a": [[CODE]]}}})
    with pytest.raises(UserError, match="expected a name"):
        check_no_code({"runner": {"eval_dataloaders": ["dev", CODE]}})


@pytest.mark.parametrize("downstream", ["emotion", "distilled_emotion", "voxceleb1", "asr"])
def test_s3prls_runner_is_not_built_of_code(downstream, monkeypatch):
    monkeypatch.setattr(Bridge, "_get_upstream", lambda self: pytest.fail("went on"), raising=False)
    config = {"downstream_expert": {"modelrc": {"select": CODE}}}
    with pytest.raises(UserError, match="expected a name"):
        Bridge(Namespace(downstream=downstream), config)


def test_a_checkpoint_with_code_in_its_head_runs_none_of_it(tmp_path):
    """Through the launcher: what -e names may be a stranger's."""
    path, _ = write_head(tmp_path / "dev-best.ckpt", mode="train", init_ckpt=None, expdir=str(tmp_path), seed=0,
                         upstream_trainable=False, device="cpu", local_rank=None, downstream_variant=None)
    code = f"(lambda: open({str(tmp_path / 'ran')!r}, 'w'))()"
    content = torch.load(path, weights_only=False)
    content["Config"] = planted("downstream_expert", "modelrc", "UtteranceLevel", "pooling", text=code)
    torch.save(content, path)
    done = run_launcher("-m", "evaluate", "-e", path, check=False)
    assert done.code == 2 and "modelrc.UtteranceLevel.pooling: found" in done.output
    assert not (tmp_path / "ran").exists()
