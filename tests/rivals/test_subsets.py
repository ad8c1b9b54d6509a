"""Which real utterances a rival is made of."""

import torch

from s3prl_dd.rivals.subsets import herded_subset, random_subset
from s3prl_dd.rng import keyed

LABELS = torch.tensor([1, 0, 1, 2, 0, 1, 2, 0, 1])


def test_random_subsets_are_of_each_class_and_of_their_seed():
    chosen = random_subset(LABELS, [2, 3, 1], seed=4)
    assert LABELS[chosen].tolist() == [0, 0, 1, 1, 1, 2] and len(set(chosen)) == 6
    assert random_subset(LABELS, [2, 3, 1], seed=4) == chosen != random_subset(LABELS, [2, 3, 1], seed=5)
    assert random_subset(LABELS, [1, 1, 1], seed=4) == [chosen[0], chosen[2], chosen[5]]
    assert sorted(random_subset(LABELS, [9, 9, 9], seed=0)) == list(range(9))


def test_herding_brings_each_mean_closest_to_the_class_mean():
    points = torch.randn(40, 3, generator=keyed("herding"))
    labels = torch.arange(40) % 2
    chosen = herded_subset(points, labels, [4, 2])
    assert labels[chosen].tolist() == [0, 0, 0, 0, 1, 1] and len(set(chosen)) == 6
    of_class = (labels == 0).nonzero()[:, 0].tolist()
    target = points[of_class].mean(dim=0)
    for size in range(1, 5):
        begun = points[chosen[:size - 1]].sum(dim=0)
        others = [index for index in of_class if index not in chosen[:size - 1]]
        distances = [((begun + points[index]) / size - target).norm() for index in others]
        assert others[torch.stack(distances).argmin()] == chosen[size - 1]
    assert herded_subset(points, labels, [2, 1]) == chosen[:2] + chosen[4:5]
    assert sorted(herded_subset(points, labels, [99, 99])) == list(range(40))
