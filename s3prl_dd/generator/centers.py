"""Teaching points: where a class of a small set lies best, for heads that read utterance means.

Beyond the paper. A head that is linear in the utterance mean learns only directions in which its points differ. Class
means differ in all that goes with emotion, so few points teach much that does not matter. The teacher's heads say what
does: the rows of their weights. The teaching point is the point nearest the mean of all classes (in Adam's units) to
which the teacher gives the same logits as to the class mean.

Adam's units: Adam divides each weight's step by the size of its gradients, which is proportional to the size of the
weight's input, and the dimensions of an upstream's hidden states differ widely in size. In a head that Adam trains on
points, dimension j weighs 1 / r_j, where r_j is its root mean square. Distances are measured with these weights.
"""

import torch

from .samples import places_of


def teaching_points(class_means: torch.Tensor, weight: torch.Tensor, mean_square: torch.Tensor) -> torch.Tensor:
    """The point of each class [C, D]: minimises sum_j (x_j - m_j)^2 / r_j over x with the logits of the class mean.

    class_means: [C, D], m their mean; weight: of the teacher's heads [M, C, D]; mean_square: of features [D], r^2
    The logits are the mean over the heads, and only differences between classes count.
    """
    middle = class_means.mean(dim=0)
    apart = (class_means - middle).double()  # [C, D]
    rows = weight.double().mean(dim=0)
    rows = rows - rows.mean(dim=0)  # [C, D]: what is common to all classes' logits decides nothing
    reach = rows * mean_square.double().sqrt()  # [C, D]
    solve = torch.linalg.pinv(rows @ reach.T, hermitian=True)  # of rank C - 1
    return middle + (apart @ rows.T @ solve @ reach).to(class_means.dtype)


def shift_to(centers: torch.Tensor, means: torch.Tensor, labels: torch.Tensor, in_step: bool = False) -> torch.Tensor:
    """The shift of each sample [N, D] that moves the mean of each class's utterance means [N, D] to its center.

    centers: [C, D]; labels: class indices [N]
    in_step: the i-th samples of all classes get the same deviation from their centers, the average of theirs (up to a
        correction that keeps classes of unequal size at their centers)
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
    """The shift of each sample [N, D] that moves the i-th utterance mean of each class to the class's i-th point.

    means: utterance means [N, D]; points: [C, n, D]; centers: [C, D]; labels: class indices [N]
    Of a class with more than n samples, the mean of the others is moved to the class's center.
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
