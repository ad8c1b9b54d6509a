"""The whole way of the data: a table of audio files > results.json, by the command line and S3PRL's runner."""

import csv

import pytest
from safetensors.torch import load_file

from s3prl_dd import cli
from s3prl_dd.arms import REAL, Arm
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.files import file_digest
from s3prl_dd.generator import Generator, read_header
from s3prl_dd.metrics import uar
from s3prl_dd.plugin.featurizer import read_checkpoint, read_layer_weights
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.results import Results

LR = 3e-3
SMALL = ["network.channels=8", "network.critic_channels=8", "network.frames=4", "network.noise=4", "batch=8", "steps=4",
         "critic_steps=1", "eval_every=2", "save_every=2", "log_every=1"]


@pytest.fixture(scope="module")
def table(corpus):
    """A CSV of the tone corpus: what `prepare table` reads."""
    path = corpus / "audio" / "table.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "emotion", "speaker"])
        for wav in sorted((corpus / "audio").glob("*/*.wav")):
            writer.writerow([wav.relative_to(corpus / "audio"), wav.stem[:3], wav.parent.name])
    return path


def run(table, out, *flags):
    """`s3prl-dd run` on the table with a tiny generator; returns the Run."""
    words = ["run", "--corpus", "table", "--root", table, "--out", out, "--device", "cpu", "--head-steps", 60,
             "--head-lrs", LR, "--pool-seeds", 2, *flags, "--overrides", *SMALL]
    assert cli.main(list(map(str, words))) == 0
    return Run.open(out)


def touched(run):
    """When each head's score was written."""
    return {path: path.stat().st_mtime_ns for path in (run.out / "exp").glob("*/run.json")}


def test_every_stage_and_a_second_run(table, tmp_path, capfd):
    """Tones tell the emotions apart, every arm learns them; the results can be counted again from what is kept."""
    flags = ("--upstream", "fbank_no_cmvn", "--budgets", "2", "--rivals", "teacher", "herding", "random_real")
    made = run(table, tmp_path / "run", *flags)
    first = capfd.readouterr().out
    results = Results.read(made.results)
    points = {arm: result.points for arm, result in results.arms.items()}
    assert points == {"real": 19, "teacher": 0, "distilled_full": 16, "distilled_2ppc": 8, "herding_2ppc": 8,
                      "random_real_2ppc": 8}
    labels = made.fold.test.labels
    assert results.test.truth == [labels[utterance.label] for utterance in made.fold.test.utterances]
    for arm, result in results.arms.items():
        assert uar(results.test.truth, result.predicted[0]) == pytest.approx(result.uar) and result.uar >= 0.9, arm
        assert result.uar_per_seed == [result.uar] and result.train_seconds > 0
    assert "GAN samples, 2 a class" in first and made.results.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"

    header = read_header(made.generator)
    assert header.features == FeatureStore(made.features).provenance and header.features.upstream == "fbank_no_cmvn"
    assert header.corpus.heard(["speaker0", "speaker1", "speaker2"]) == ["speaker1", "speaker2"]
    assert len(header.corpus.test_speakers) == 1 and b"speaker1" not in made.generator.read_bytes()
    before = touched(made)
    run(table, tmp_path / "run", *flags)
    assert touched(made) == before
    assert capfd.readouterr().out.splitlines()[-12:-3] == first.splitlines()[-12:-3]  # the same table

    saved = tmp_path / "set.safetensors"
    assert cli.main(["sample", str(made.generator), "--budget", "3", "--to", str(saved)]) == 0
    expected = Generator.load(made.generator).sample(3)
    assert (load_file(saved)["features"] - expected.features).abs().max() < 1e-5


@pytest.mark.parametrize("upstream", ["hubert_local", "hf_hubert_custom"])
def test_learnt_layer_weights_reach_the_file_and_the_next_heads(upstream, table, hubert_file, tmp_path):
    """Real head > extraction > store > generator file > Featurizer of the head that is trained on its samples."""
    checkpoint = hubert_file
    if upstream == "hf_hubert_custom":
        from support.tiny_hubert import write_hf_hubert

        checkpoint = tmp_path / "hf"
        write_hf_hubert(checkpoint)
    made = run(table, tmp_path / "run", "--upstream", upstream, "--upstream-ckpt", checkpoint, "--budgets")
    results = Results.read(made.results)
    assert set(results.arms) == {"real", "distilled_full"}
    features = read_header(made.generator).features
    assert features.dim == 64 and features == FeatureStore(made.features).provenance
    if upstream == "hubert_local":
        assert features.upstream_ckpt_digest == file_digest(checkpoint)
    learnt = read_layer_weights(made.expdir(REAL, 0, LR) / "dev-best.ckpt")
    assert features.layer_weights == pytest.approx(learnt, abs=1e-6) != pytest.approx([1 / 3] * 3, abs=1e-4)
    arm = Arm.parse("distilled_full")
    used = read_layer_weights(made.expdir(arm, 0, LR) / "dev-best.ckpt")
    assert used == pytest.approx(learnt, abs=1e-4)
    data = read_checkpoint(made.expdir(arm, 0, LR) / "dev-best.ckpt")["Config"]["downstream_expert"]["datarc"]
    assert data["generator"] == str(made.generator.resolve()) and data["test_fold"] == "fold1"


def test_a_stage_before_its_time_says_which_is_missing(table, tmp_path, capsys):
    words = ["run", "--corpus", "table", "--root", str(table), "--out", str(tmp_path), "--upstream", "fbank"]
    assert cli.main([*words, "--stop-stage", "1"]) == 0
    assert cli.main(["train", "--out", str(tmp_path)]) == 2
    assert "Run `s3prl-dd distill" in capsys.readouterr().err


def test_soft_labels_without_a_teacher_are_refused_before_any_work(table, tmp_path, capsys):
    words = ["run", "--corpus", "table", "--root", str(table), "--out", str(tmp_path / "run")]
    assert cli.main([*words, "--config", "gan_cnn_small"]) == 2
    assert "--labels hard" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert cli.main([*words, "--overrides", "sepst=3"]) == 2
    assert "Did you mean 'steps'?" in capsys.readouterr().err
