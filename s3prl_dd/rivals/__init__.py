"""What a distilled generator is measured against, each as a generator file: S3PRL's runner trains on all alike.

    subsets.py     random real utterances, herded ones           learnt.py      points that are learnt
    gaussian.py    Gaussians in closed form                      make.py        a rival by name -> Generator

Knows nothing of S3PRL. What is compared with what: arms.py.
"""
