"""Products by oneDNN are torch's own, with their derivatives, and everything large on a CPU goes by them."""

import threading

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from s3prl_dd import devices, products
from s3prl_dd.products import Linear, everywhere, linear, onednn_is_faster
from s3prl_dd.rng import keyed

LARGE = 128  # 128 rows of 128 numbers to 128: enough for oneDNN
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="this torch has no oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """Products that go by oneDNN, as on a processor where it is faster: the shapes of their inputs."""
    if not HAS_ONEDNN:
        pytest.skip("this torch has no oneDNN")
    made = []

    def multiply(rows, weight, bias):
        made.append(tuple(rows.shape))
        return BY_ONEDNN(rows, weight, bias)

    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "_by_onednn", multiply)
    return made


@pytest.fixture
def all_calls(calls, monkeypatch):
    """The same where small products go by oneDNN, too."""
    monkeypatch.setattr(products, "ENOUGH", 0)
    monkeypatch.setattr(products, "ENOUGH_COLUMNS", 0)
    return calls


BY_ONEDNN = products._by_onednn


def noise(*shape):
    return torch.randn(shape, generator=keyed(0, *shape))


def near(one, other):
    return (one - other).abs().max() <= 1e-5 * other.abs().max()


@pytest.mark.parametrize("shape", [(LARGE, LARGE), (4, 32, LARGE), (2, 4, 16, LARGE)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_derivatives_are_torchs(calls, shape, with_bias):
    """And those of the gradient's square, as of a gradient penalty."""
    tensors = [noise(*shape), noise(LARGE, LARGE), noise(LARGE) if with_bias else None]

    def derived(product):
        x, weight, bias = (None if tensor is None else tensor.clone().requires_grad_() for tensor in tensors)
        y = product(x, weight, bias)
        wanted = [tensor for tensor in (x, weight, bias) if tensor is not None]
        first = torch.autograd.grad((y ** 3).sum(), wanted, create_graph=True)
        of_squares = sum(gradient.square().sum() for gradient in first)
        return [y, *first, *torch.autograd.grad(of_squares, wanted)]

    expected = derived(F.linear)
    assert not calls
    for found, value in zip(derived(linear), expected, strict=True):
        assert found.shape == value.shape and near(found, value)
    assert len(calls) > 6


def test_only_what_is_asked_for_is_derived(calls):
    x, weight = noise(LARGE, LARGE).requires_grad_(), noise(LARGE, LARGE)
    linear(x, weight).sum().backward()
    assert len(calls) == 2 and x.grad is not None


def test_matrices_may_lie_across(calls):
    x, weight = noise(LARGE, LARGE), noise(LARGE, LARGE)
    assert near(linear(x.t(), weight.t()), x.t() @ weight) and calls


@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(2048, 384, 768), (384, 768, 2048), (128, 384, 512)])
def test_bits_are_those_of_one_thread(calls, rows, outputs, inputs):
    """For shapes as a distiller has them."""
    x, weight = noise(rows, inputs), noise(outputs, inputs)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = linear(x, weight)
        torch.set_num_threads(3)
        assert torch.equal(alone, linear(x, weight))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("x", [noise(4, 4), noise(LARGE, LARGE).double(), noise(LARGE, LARGE).to("meta"), noise(1024)],
                         ids=["small", "float64", "shapes alone", "a vector"])
def test_the_rest_is_left_to_torch(calls, x):
    weight = noise(x.shape[-1], x.shape[-1]).to(x)
    assert linear(x, weight).shape == linear(x, weight, weight[0]).shape == x.shape
    assert linear(x, weight[0]).shape == x.shape[:-1]
    assert not calls


BIASES = {"expanded": noise(1).expand(LARGE), "every second": noise(2 * LARGE)[::2], "a column": noise(LARGE, 3)[:, 0],
          "a number": noise(1)[0], "a row": noise(1, LARGE), "of each": noise(LARGE, LARGE)}
"""That oneDNN would misread, or not take."""


@pytest.mark.parametrize("kind", BIASES)
def test_any_bias_that_torch_takes(calls, kind):
    x, weight, bias = noise(LARGE, LARGE), noise(LARGE, LARGE), BIASES[kind]
    assert near(linear(x, weight, bias), F.linear(x, weight, bias))


@pytest.mark.parametrize(("x", "weight", "bias"), [
    (noise(LARGE, LARGE), noise(LARGE, LARGE + 1), None), (noise(LARGE, LARGE), noise(LARGE, LARGE), noise(LARGE + 1)),
    (noise(LARGE, LARGE), noise(2, LARGE, LARGE), None), (noise(LARGE, LARGE), noise(LARGE, LARGE).double(), None)],
    ids=["columns", "bias", "three dimensions", "dtype"])
def test_errors_are_torchs(calls, x, weight, bias):
    with pytest.raises(RuntimeError) as expected:
        F.linear(x, weight, bias)
    with pytest.raises(RuntimeError) as told:
        linear(x, weight, bias)
    assert str(told.value) == str(expected.value)


def test_what_derives_otherwise_is_left_to_torch(calls):
    """Forward mode, torch.func, traces, exports, torch.compile; and where oneDNN is switched off."""
    layer, x = Linear(LARGE, LARGE), noise(LARGE, LARGE)
    plain = nn.Linear(LARGE, LARGE)
    plain.load_state_dict(layer.state_dict())
    ones = torch.ones_like(x)
    assert torch.equal(torch.func.jvp(layer, (x,), (ones,))[1], torch.func.jvp(plain, (x,), (ones,))[1])
    square = [lambda x, way=way: way(x).square().sum() for way in (layer, plain)]
    assert torch.equal(*(torch.func.grad(way)(x) for way in square))
    assert torch.jit.trace(layer, x, check_trace=False)(x[:3]).shape == (3, LARGE)
    batch = {"input": {0: torch.export.Dim("batch", min=2)}}
    exported = torch.export.export(plain_of(layer), (x,), dynamic_shapes=batch)
    assert "mkldnn" not in str(exported.graph)
    assert not calls
    with torch.backends.mkldnn.flags(enabled=False):
        layer(x)
    assert not calls


def plain_of(layer):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, input):
            return self.layer(input)

    return Whole()


def test_a_frozen_layer_keeps_no_input(calls):
    """So that the input may be changed in place, as with torch's own."""
    x, weight = noise(LARGE, LARGE).requires_grad_(), noise(LARGE, LARGE)
    middle = x * 1
    y = linear(middle, weight)
    middle.mul_(2)
    y.sum().backward()
    assert near(x.grad, weight.sum(dim=0).expand_as(x))


def test_few_shapes_reach_onednn(calls):
    """It keeps each; what is filled up leaves values and gradients as they are."""
    weight = noise(LARGE, LARGE).requires_grad_()
    for rows in range(200, 2200, 23):
        x = noise(rows, LARGE)
        y = linear(x, weight)
        assert y.shape == (rows, LARGE) and near(y, F.linear(x, weight))
        gradient, = torch.autograd.grad(y.square().sum(), weight)
        expected, = torch.autograd.grad(F.linear(x, weight).square().sum(), weight)
        assert near(gradient, expected)
    assert len(set(calls)) < 70
    padded = [products._filled(noise(rows, 1)) for rows in (64, 65, 1000, 100_001)]
    assert [len(rows) for rows in padded] == [64, 128, 1024, 102_400] and not padded[1][65:].any()


def test_half_precision_is_left_to_torch(calls):
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(noise(LARGE, LARGE), noise(LARGE, LARGE)).dtype == torch.bfloat16
    assert not calls


def test_everywhere_reaches_torchs_layers_and_attention(calls):
    layer, x = nn.Linear(LARGE, LARGE), noise(LARGE, 1, LARGE)
    attention = nn.MultiheadAttention(LARGE, 2)
    expected, attended = layer(x), attention(x, x, x)[0]
    assert not calls
    with everywhere():
        assert near(layer(x), expected) and len(calls) == 1
        assert near(attention(x, x, x)[0], attended) and len(calls) >= 3
    calls.clear()
    layer(x)
    assert not calls and F.linear is products.F_LINEAR


def test_everywhere_leaves_what_somebody_else_put_there(calls, monkeypatch):
    def theirs(*arguments):
        return products.F_LINEAR(*arguments)

    monkeypatch.setattr(F, "linear", theirs)
    with everywhere():
        assert F.linear is theirs
    assert F.linear is theirs


def test_everywhere_ends_with_the_last_one(calls):
    """Two threads that are in it, and leave one before the other; and an error leaves it too."""
    entered, leave = threading.Event(), threading.Event()

    def stay():
        with everywhere():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=stay)
    with everywhere():
        thread.start()
        entered.wait(60)
    assert F.linear is linear
    leave.set()
    thread.join()
    assert F.linear is products.F_LINEAR
    with pytest.raises(ValueError), everywhere():
        raise ValueError
    assert F.linear is products.F_LINEAR


@pytest.mark.parametrize(("told", "kernels", "faster"), [
    ("vendor_id\t: AuthenticAMD\n", "AVX512", True), ("vendor_id\t: AuthenticAMD\n", "AVX2", False),
    ("vendor_id\t: GenuineIntel\n", "AVX512", False), ("BogoMIPS : 50\n", "DEFAULT", False), (None, "AVX512", False)])
@needs_onednn
def test_where_it_is_faster(monkeypatch, tmp_path, told, kernels, faster):
    """MKL has AVX-512 for Intel's processors alone."""
    monkeypatch.setattr(devices, "PROCESSORS", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kernels)
    if told is not None:
        devices.PROCESSORS.write_text("processor\t: 0\n" + told, encoding="utf-8")
    onednn_is_faster.cache_clear()
    try:
        assert onednn_is_faster() == faster
    finally:
        onednn_is_faster.cache_clear()


# where the products are


def test_a_distillers_step_goes_by_them(all_calls):
    """Of the critic, its penalty and the generator: still the plain loop's losses and gradients."""
    from s3prl_dd.config import load_config
    from s3prl_dd.distill import bench
    from s3prl_dd.distill.config import DistillConfig
    from s3prl_dd.distill.plain import PlainLoop

    small = ["network.frames=8", "network.channels=8", "network.critic_channels=8", "batch=16"]
    trainer = bench.make_trainer(load_config(DistillConfig, "gan_1d", small), 13, 4, "cpu")
    plain = PlainLoop(trainer)
    all_calls.clear()
    assert bench.losses_apart(trainer, plain) < 1e-4
    first, penalty, to_frames = (32 * 8, 13), (16 * 8, 24), (16 * 8, 8)
    assert {first, penalty, to_frames} <= set(all_calls)


@pytest.mark.parametrize("architecture", ["gan_1d", "gan_att"])
def test_drawing_goes_by_them(all_calls, architecture):
    from s3prl_dd.generator.inference import DRAWN, Inference
    from s3prl_dd.generator.networks import NetworkConfig, build_generator

    network = build_generator(NetworkConfig(architecture=architecture, frames=8, noise=5, channels=6).sized(3, 20))
    noises, labels = noise(6, 5), torch.arange(6) % 3
    expected = network.eval()(noises, labels)
    assert not all_calls  # a file's network has torch's own layers
    assert near(Inference(network, DRAWN)(noises, labels), expected)
    assert len(all_calls) == (6 if architecture == "gan_1d" else 2)


def test_an_upstream_goes_by_them(all_calls, hubert_file):
    """Attention and all; S3PRL's own way stays as it is."""
    from s3prl_dd.features.spec import FeatureSpec
    from s3prl_dd.plugin.encoder import Encoder
    from s3prl_dd.plugin.states import Listener

    encoder = Encoder(FeatureSpec("hubert_local", str(hubert_file)))
    wav = noise(8000)
    expected = encoder.as_s3prl([wav])[0]
    assert not all_calls
    assert near(encoder.encode([wav])[0], expected)
    once = len(all_calls)
    assert once > 8
    encoder.states([wav])
    assert len(all_calls) == 2 * once
    Listener(encoder.upstream, encoder.featurizer, "means").hear(wav)
    assert len(all_calls) == 3 * once and F.linear is products.F_LINEAR


@pytest.mark.parametrize(("words", "ours"), [([], True), (["--no_feature_cache"], False)])
def test_s3prls_run_goes_by_them_unless_it_is_to_be_stock(monkeypatch, tmp_path, words, ours):
    import s3prl.run_downstream

    from s3prl_dd.plugin import launcher

    seen = []
    monkeypatch.setattr(launcher, "check_data", lambda given: None)
    monkeypatch.setattr(s3prl.run_downstream, "main", lambda: seen.append(F.linear))
    for name in ("Runner", "override", "glob"):
        monkeypatch.setattr(s3prl.run_downstream, name, None)
    monkeypatch.setattr("sys.argv", ["run_downstream.py"])
    launcher.launch(["-m", "train", "-d", "emotion", "-u", "fbank", "--device", "cpu", "-p", str(tmp_path), *words])
    assert seen == [linear if ours else products.F_LINEAR] and F.linear is products.F_LINEAR
