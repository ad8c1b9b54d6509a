"""TESS: two actresses, an older and a younger one, 200 words each in 7 emotions; of those the four that S3PRL knows.

Names are OAF_back_angry: speaker, word, emotion, in any case. One file of the release, OA_bite_neutral, lacks a letter
of its speaker. Fold 1 tests on the older actress, fold 2 on the younger.
"""

from .base import Corpus, FileNames

FOLD_OF = {"OAF": 1, "YAF": 2}

NAMES = FileNames(
    pattern=r"(?P<speaker>OAF?|YAF?)_[^_/]+_(?P<emotion>[^/]+)",
    emotions={"neutral": "neu", "happy": "hap", "angry": "ang", "sad": "sad"},
    others={"disgust": "disgust", "fear": "fear", "ps": "pleasant surprise", "pleasant_surprise": "pleasant surprise",
            "pleasant_surprised": "pleasant surprise"},
    fold_of=FOLD_OF.__getitem__,
    example="TESS files such as OAF_angry/OAF_back_angry.wav",
    any_case=True,
    aliases={"OA": "OAF", "YA": "YAF"},
)

CORPUS = Corpus("tess", NAMES.find, "Toronto emotional speech set, CC BY-NC-ND 4.0 (Pichora-Fuller and Dupuis 2020)")
