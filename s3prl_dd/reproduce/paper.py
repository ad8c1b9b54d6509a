"""What the paper reports, to stand in brackets beside ours: IEMOCAP Session 1, HuBERT Base, full-size networks.

Cells that the published text has lost are not here.
"""

BYTES = {"audio": 1.8e9, "features": 2.4e9, "GAN-CNN": 0.1e9, "GAN-ATT": 0.06e9}
"""Table 1: bytes of the training audio, of its features, of each generator file."""

LOSSES_UAR: dict[tuple[object, object, object], float] = {
    ("GAN-CNN", 50, "baseline"): 0.4775,
    ("GAN-CNN", 50, "both"): 0.5499,
    ("GAN-ATT", 100, "both"): 0.6195,
}
"""Table 2: (network, points per class, losses) -> UAR. Of one term alone GAN-CNN has 48.52 and 53.79 at 50 a class, and
the text no longer tells which is which."""

SIZES_UAR: dict[tuple[str, str], float] = {
    ("real", "original"): 0.6420,
    ("GAN-ATT", "original"): 0.6369,
    ("GAN-ATT", "full"): 0.6450,
}
"""Table 3: (trained on, size) -> UAR at the size of the real training set."""

SID_ACCURACY = {"upstream": 0.8089, "real": 0.4487, "baseline": 0.4287, "proposed": 0.3799}
"""Table 4: SUPERB's SID accuracy on the first linear layer of the SER head, by row (privacy.rows)."""
