"""Files of format 1 sample the same frames for ever: golden files, and what revision 2991ac6 drew from them."""

import pytest
import torch
from safetensors.torch import load_file
from support.runs import TESTS

from s3prl_dd.generator import GeneratedDataset, Generator

ASSETS = TESTS / "assets"
BUDGET, SEED = {"counts": [2, 1, 2]}, 5
SETS = [(center, lengths, epoch) for center in (False, True) for lengths in ("generator", "corpus") for epoch in (0, 1)]


def same(samples, expected):
    assert samples.lengths.tolist() == expected["lengths"].tolist()
    assert samples.labels.tolist() == expected["labels"].tolist() == [0, 0, 1, 2, 2]
    torch.testing.assert_close(samples.features, expected["features"], rtol=1e-5, atol=1e-6)
    if "soft_labels" in expected:
        torch.testing.assert_close(samples.soft_labels, expected["soft_labels"], rtol=1e-5, atol=1e-6)
    else:
        assert samples.soft_labels is None


@pytest.mark.parametrize("name", ["gan_1d", "gan_1d_half", "gan_att", "gaussian"])
@pytest.mark.parametrize("center, lengths, epoch", SETS)
def test_golden_samples(name, center, lengths, epoch):
    generator = Generator.load(ASSETS / f"{name}.safetensors")
    prefix = f"{'centred' if center else 'plain'}.{lengths}.epoch{epoch}."
    golden = load_file(ASSETS / f"{name}.samples.safetensors")
    expected = {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}
    same(generator.sample(BUDGET, SEED, epoch, lengths, center=center), expected)
    data = GeneratedDataset(generator, BUDGET, SEED, resample=True, lengths=lengths, center=center)
    data.set_epoch(epoch)
    same(data.collate(data.__getitems__(range(5))), expected)


def test_the_golden_sets_differ():
    """What the golden files are to tell apart is apart in them."""
    golden = load_file(ASSETS / "gan_1d.samples.safetensors")
    features = [golden[f"{kind}.generator.epoch{epoch}.features"] for kind in ("plain", "centred") for epoch in (0, 1)]
    for number, one in enumerate(features):
        assert all((one - other).abs().max() > 0.01 for other in features[:number])
    assert golden["plain.corpus.epoch0.lengths"].tolist() != golden["plain.corpus.epoch1.lengths"].tolist()


def test_a_golden_file_written_again_is_the_same_file(tmp_path):
    for name, half in (("gan_1d", False), ("gan_1d_half", True)):
        Generator.load(ASSETS / f"{name}.safetensors").save(tmp_path / name, half=half)
        before, after = load_file(ASSETS / f"{name}.safetensors"), load_file(tmp_path / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)
