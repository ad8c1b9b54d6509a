"""Berlin EmoDB: 10 speakers, German; of its 7 emotions neutral, happiness, anger and sadness.

Names are 03a01Fa: speaker, text, emotion letter, version. Each of the 5 folds tests on one man and one woman.
"""

from .base import Corpus, FileNames

PAIRS = (("03", "08"), ("10", "09"), ("11", "13"), ("12", "14"), ("15", "16"))  # (man, woman)
FOLD_OF = {speaker: fold for fold, pair in enumerate(PAIRS, 1) for speaker in pair}

NAMES = FileNames(
    pattern=r"(?P<speaker>03|08|09|1[0-6])[ab]\d\d(?P<emotion>[A-Z])[a-z]?",
    emotions={"N": "neu", "F": "hap", "W": "ang", "T": "sad"},
    others={"L": "boredom", "E": "disgust", "A": "fear"},
    fold_of=FOLD_OF.__getitem__,
    example="EmoDB files such as wav/03a01Fa.wav",
)

CORPUS = Corpus("emodb", NAMES.find, "Berlin Database of Emotional Speech (Burkhardt et al. 2005), freely available")
