"""FrozenUpstream: placeholders cost nothing, recordings pass once and alone, as S3PRL's Featurizer reads them."""

import pytest
import torch
from support.upstreams import Counting, counting
from torch.utils.data import DataLoader

from s3prl_dd.corpora.audio import load_audio
from s3prl_dd.plugin.cache import FrozenUpstream
from s3prl_dd.plugin.featurizer import weigh_by_product
from s3prl_dd.plugin.placeholder import Recording, Recordings, make_placeholder, make_ticket
from s3prl_dd.plugin.states import Listener


@pytest.fixture
def files(corpus):
    """Three recordings of 0.4, 0.5 and 0.6 s."""
    return [corpus / "audio" / "speaker0" / f"neu{take}.wav" for take in range(3)]


class Setup:
    """An upstream, the Featurizer over it, and the frozen upstream before both, as the Runner has them."""

    def __init__(self, files, kind="states", limit=1e9, weights=(0.0, 0.0, 0.0), **options):
        self.upstream, self.featurizer = counting(weights)
        self.runs = self.upstream.runs  # Featurizer's own
        recordings = Recordings()
        self.tickets = [torch.from_numpy(make_ticket(recordings.add(Recording(str(path))))) for path in files]
        listener = Listener(self.upstream, self.featurizer, kind)
        self.model = FrozenUpstream(self.upstream, self.featurizer, listener, recordings, limit, **options)
        self.featurizer.tolist = self.model.tolist

    @property
    def heard(self):
        return self.upstream.runs - self.runs

    def frames(self, wavs):
        """What reaches the head."""
        return self.featurizer(wavs, self.model(wavs))


def stock(path, weights=(0.0, 0.0, 0.0)):
    """Frames of a recording by the upstream and S3PRL's Featurizer alone."""
    upstream, featurizer = counting(weights)
    wav = [torch.from_numpy(load_audio(path))]
    return featurizer(wav, upstream(wav))[0]


def test_placeholders_cost_no_upstream(files):
    setup = Setup(files)
    frames = setup.frames([torch.from_numpy(make_placeholder())] * 5)
    assert len(frames) == 5 and all(frame.isfinite().all() and frame.shape == (1, 10) for frame in frames)
    assert setup.heard == 0


def test_tickets_are_their_recordings_alone(files):
    """Each passes once, whoever it shares a batch with, and comes out with its own frames."""
    setup = Setup(files, weights=(0.3, -1.0, 2.0))
    for batch in ([0, 1], [2], [1, 2, 0]):
        for place, frames in zip(batch, setup.frames([setup.tickets[place] for place in batch]), strict=True):
            torch.testing.assert_close(frames, stock(files[place], (0.3, -1.0, 2.0)), rtol=0, atol=0)
    assert setup.heard == 3


def test_means_are_over_featurizers_frames(files):
    """Featurizer hands over round(samples / rate) frames, here fewer than the upstream gave: no others may count."""
    setup = Setup(files, "means", weights=(0.3, -1.0, 2.0))
    for path, mean in zip(files, setup.frames(setup.tickets), strict=True):
        assert mean.shape == (1, 10)
        torch.testing.assert_close(mean[0], stock(path, (0.3, -1.0, 2.0)).mean(dim=0), rtol=1e-6, atol=1e-6)


def test_weighted_frames_are_featurizers(files):
    setup = Setup(files, "frames", weights=(0.3, -1.0, 2.0))
    for path, frames in zip(files, setup.frames(setup.tickets), strict=True):
        torch.testing.assert_close(frames, stock(path, (0.3, -1.0, 2.0)), rtol=1e-6, atol=1e-6)
    assert torch.is_tensor(setup.model(setup.tickets)["hidden_states"])  # Featurizer weighs no more
    assert setup.model.memory.used == sum(4 * stock(path).numel() for path in files)


def test_layer_weights_still_learn(files):
    for kind in ("means", "states"):
        setup = Setup(files, kind)
        torch.cat(setup.frames(setup.tickets)).square().sum().backward()
        assert setup.featurizer.weights.grad.abs().sum() > 0


@pytest.mark.parametrize("normalize", [False, True])
def test_states_are_weighed_by_one_product_as_featurizer_does(files, normalize):
    """Frames and the layer weights' gradient."""
    found, plain = [], []
    for faster in (False, True):
        setup = Setup(files, weights=(0.3, -1.0, 2.0))
        setup.featurizer.normalize = normalize
        if faster:
            weigh_by_product(setup.featurizer)
        frames = torch.cat(setup.frames(setup.tickets))
        frames.square().sum().backward()
        found.append((frames.detach(), setup.featurizer.weights.grad))
        wav = [torch.from_numpy(load_audio(files[0]))]
        setup.featurizer.tolist = setup.model.cut
        plain.append(setup.featurizer(wav, setup.upstream(wav))[0])  # a list of its own
    (expected, of_weights), (frames, faster_of_weights) = found
    torch.testing.assert_close(frames, expected, rtol=1e-5, atol=1e-5)
    terms = expected.square().sum().item()  # softmax's backward takes differences of sums about as large as this
    torch.testing.assert_close(faster_of_weights, of_weights, rtol=1e-5, atol=1e-6 * terms)
    assert torch.equal(*plain)


def test_batches_share_their_memory(files):
    """What a batch before has left there, longer or of more recordings, is not to be seen."""
    setup, alone = Setup(files), Setup(files)
    first = setup.model(setup.tickets)["hidden_states"]
    assert first[0].shape == (3, 30, 10)
    for batch in ([0, 1], [0], [2, 1, 0]):
        tickets = [setup.tickets[place] for place in batch]
        states = setup.model(tickets)
        assert states["hidden_states"][0].data_ptr() == first[0].data_ptr()
        assert not states["hidden_states"][0][0, len(stock(files[batch[0]])):].any()  # padding is zeros
        for place, frames in zip(batch, setup.featurizer(tickets, states), strict=True):
            assert torch.equal(frames, alone.frames([alone.tickets[place]])[0])


def test_a_full_memory_computes_the_same_again(files):
    setup = Setup(files, "states", limit=3 * 4 * stock(files[0]).numel())
    one, other = setup.frames(setup.tickets), setup.frames(setup.tickets)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert setup.heard == 5 and setup.model.memory.used <= setup.model.memory.limit


def test_a_recording_is_not_decoded_again(files, monkeypatch):
    decoded = []
    monkeypatch.setattr(Recording, "load", lambda self: decoded.append(self.path) or load_audio(self.path))
    setup = Setup(files, "means")
    for _ in range(3):
        setup.frames(setup.tickets)
    assert decoded == [str(path) for path in files]


def test_tickets_pass_a_loaders_processes(files):
    """Numbers are those of the list, whoever hands them over."""
    setup = Setup(files)
    loader = DataLoader([ticket.numpy() for ticket in setup.tickets], batch_size=3, num_workers=2, collate_fn=list)
    batch = [torch.FloatTensor(wav) for wav in next(iter(loader))]
    assert all(torch.equal(a, b) for a, b in zip(setup.frames(batch), setup.frames(setup.tickets), strict=True))


def test_audio_goes_as_s3prl_sends_it(files):
    """Silence as long as a mark's shape never is; a batch, padded, through the upstream each time."""
    wavs = [torch.from_numpy(load_audio(path)) for path in files]
    for kind in ("means", "frames", "states"):
        setup = Setup(files, kind)
        upstream, featurizer = counting()
        for one, other in zip(setup.frames(wavs), featurizer(wavs, upstream(wavs)), strict=True):
            assert torch.equal(one, other)
        assert setup.heard == 1 and not setup.model.memory.kept


def test_audio_is_remembered_where_it_is_asked_for(files):
    wavs = [torch.from_numpy(load_audio(path)) for path in files]
    setup = Setup(files, "states", hears_audio=True)
    for batch in (wavs, wavs[:1], wavs[1:]):
        frames = setup.frames(batch)
    assert setup.heard == 3
    for path, one in zip(files[1:], frames, strict=True):
        assert torch.equal(one, stock(path))


def test_the_upstream_still_tells_its_rate():
    assert FrozenUpstream(*counting()).get_downsample_rates("hidden_states") == Counting.rate
