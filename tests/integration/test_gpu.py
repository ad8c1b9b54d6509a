"""The whole recipe on a GPU: heads by S3PRL's runner in processes of their own, features, pool, distillation."""

import pytest
from support.gpu import needs_gpu, touch
from support.iemocap_tree import tone

from s3prl_dd import cli
from s3prl_dd.arms import Arm
from s3prl_dd.plugin import workers
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.results import Results

pytestmark = [pytest.mark.gpu, needs_gpu, pytest.mark.slow]

SMALL = ["network.channels=8", "network.critic_channels=8", "network.frames=4", "network.noise=4", "batch=4", "steps=6",
         "critic_steps=2", "eval_every=3", "save_every=3", "log_every=1"]


def test_what_the_server_imports_leaves_a_gpu_to_its_forks():
    """S3PRL's log_stft looks for one when it is imported."""
    process = workers.CONTEXT.Process(target=touch)
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("head", ["superb", "attentive"])
def test_recipe(head, tmp_path):
    lines = ["path,emotion,speaker,fold"]
    for fold, speaker in enumerate("abc"):
        for place, emotion in enumerate(("neutral", "angry")):
            for take in range(3):
                name = f"{speaker}_{emotion}_{take}.wav"
                tone(tmp_path / name, seconds=0.3 + 0.05 * take, pitch=150 + 200 * place + 30 * fold + 10 * take)
                lines.append(f"{name},{emotion},{speaker},{fold + 1}")
    (tmp_path / "tones.csv").write_text("\n".join(lines))
    out = tmp_path / "out"
    words = ["--corpus", "table", "--root", tmp_path / "tones.csv", "--upstream", "fbank_no_cmvn", "--head", head,
             "--device", "cuda", "--budgets", "2", "--head-steps", "20", "--rivals", "gaussian_frames", "--out", out]
    assert cli.main(["run", *map(str, words), "--overrides", *SMALL]) == 0
    results = Results.read(Run.open(out).results)
    sources = {Arm.parse(name).source.value for name in results.arms}
    assert sources == {"real", "distilled", "gaussian_frames"}
