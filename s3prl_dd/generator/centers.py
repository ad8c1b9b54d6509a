"""Teaching points: where a class of a small set lies best, for heads that read utterance means.

Beyond the paper. A head that is linear in the utterance mean learns only directions in which its points differ. Class
means differ in all that goes with emotion, so few points teach much that does not matter. The teacher's heads say what
does: the rows of their weights. A class's teaching point is the one nearest the middle of the classes of which they
think what they think of the class's mean.

Nearest as Adam sees it: it divides each weight's step by the size of its gradients, which goes with the size of the
weight's input, and upstreams' hidden states have dimensions of very different size. In the head that Adam makes of
points, dimension j counts 1 / r_j, r_j its root mean square. So distances are taken with these weights.
"""

import torch

from .samples import places_of


def teaching_points(class_means: torch.Tensor, weight: torch.Tensor, mean_square: torch.Tensor) -> torch.Tensor:
    """[C, D], a point for each class: minimises sum_j (x_j - m_j)^2 / r_j, where the heads judge x as the class's mean.

    class_means: [C, D], m their mean; weight: of the teacher's heads [M, C, D]; mean_square: of features [D], r^2
    As heads judge: differences between the classes' logits, mean of the heads.
    """
    middle = class_means.mean(dim=0)
    apart = (class_means - middle).double()  # [C, D]
    rows = weight.double().mean(dim=0)
    rows = rows - rows.mean(dim=0)  # [C, D]: what is common to all classes' logits decides nothing
    reach = rows * mean_square.double().sqrt()  # [C, D]
    solve = torch.linalg.pinv(rows @ reach.T, hermitian=True)  # of rank C - 1
    return middle + (apart @ rows.T @ solve @ reach).to(class_means.dtype)


def shift_to(centers: torch.Tensor, means: torch.Tensor, labels: torch.Tensor, in_step: bool = False) -> torch.Tensor:
    """[N, D] that brings the mean of each class's utterance means [N, D] to its center, `centers` [C, D].

    labels: class indices [N]; in_step: also, the i-th samples of all classes then deviate from their centers alike, as
    they do in the mean of these classes (but for what keeps classes of unequal number at their centers)
    """
    here = mean_of_each(means, labels, len(centers))  # [C, D]
    shift = (centers - here)[labels]
    if not in_step:
        return shift
    deviations = means - here[labels]
    places = places_of(labels)
    alike = mean_of_each(deviations, places, len(places))[places]  # [N, D]
    return shift + alike - mean_of_each(alike, labels, len(centers))[labels] - deviations


def shift_to_points(points: torch.Tensor, centers: torch.Tensor, means: torch.Tensor,
                    labels: torch.Tensor) -> torch.Tensor:
    """[N, D] that brings the i-th of each class's utterance means [N, D] to the i-th of its points [C, n, D].

    Where there are more than n, the mean of the others comes to the class's center. centers: [C, D]; labels: [N]
    """
    places = places_of(labels)
    listed = places < points.shape[1]
    shift = torch.empty_like(means)
    shift[listed] = points[labels[listed], places[listed]] - means[listed]
    shift[~listed] = shift_to(centers, means[~listed], labels[~listed])
    return shift


def mean_of_each(values: torch.Tensor, groups: torch.Tensor, number: int) -> torch.Tensor:
    """Mean of the values [N, D] of each group [number, D], 0 of one that has none. groups: [N], from 0 up"""
    total = values.new_zeros(number, values.shape[1], dtype=torch.float64).index_add_(0, groups, values.double())
    counts = torch.bincount(groups, minlength=number).clamp(min=1)
    return (total / counts[:, None]).to(values.dtype)
