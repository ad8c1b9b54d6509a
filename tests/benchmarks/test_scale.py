"""Every stage with many utterances, on few."""

import pytest

from s3prl_dd.benchmarks import scale
from s3prl_dd.benchmarks.scale import PREPARE, STAGES, bench_scale
from s3prl_dd.distill.bench import SCALE_STAGES
from s3prl_dd.features.bench import STEPS, make_corpus


@pytest.mark.slow
def test_all_stages():
    rows = bench_scale([300], dim=6)
    assert [row.name for row in rows] == [*STEPS, *SCALE_STAGES, *STAGES] and {row.utterances for row in rows} == {300}
    assert all(row.seconds >= 0 and row.peak > 50e6 for row in rows)


def test_prepared_lists_are_opened(tmp_path):
    make_corpus(tmp_path, 40, 4)
    scale._write_audio(tmp_path, 40)
    STAGES[PREPARE](tmp_path)
    assert scale._open_lists(tmp_path) == 0  # nothing is kept yet
    fold = scale._fold(tmp_path)
    assert len(fold.train.utterances) + len(fold.dev.utterances) + len(fold.test.utterances) == 40
