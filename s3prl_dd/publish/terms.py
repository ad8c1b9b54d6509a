"""What a corpus's terms mean for a generator file that was made from it. No legal advice: it says what to look up."""

import re
from typing import NamedTuple

from ..corpora.prepare import CORPORA


class Terms(NamedTuple):
    """A licence as the Hub names it, and what it means for sharing."""

    text: str
    """The corpus's terms, in a line."""
    license: str
    """The Hub's identifier; other, or unknown."""
    sharing: str
    """What that means for sharing the file, in sentences."""
    open: bool
    """Whether the terms let such a file be shared with everyone."""


ATTRIBUTION = "Name the corpus and its authors."
SAME = "The file is made from the corpus, so share it under the same licence."
ALONE = "Not for commercial use."

KNOWN = (
    (r"CC BY-NC-SA 4\.0", "cc-by-nc-sa-4.0", f"{ATTRIBUTION} {SAME} {ALONE}", True),
    (r"CC BY-NC-ND 4\.0", "cc-by-nc-nd-4.0",
     f"{ATTRIBUTION} {ALONE} The licence allows no adapted material to be shared; whether a generator file is such "
     "material is for the corpus's owner to say. Ask before sharing it.", False),
    (r"CC BY-SA 4\.0", "cc-by-sa-4.0", f"{ATTRIBUTION} {SAME}", True),
    (r"CC BY 4\.0", "cc-by-4.0", ATTRIBUTION, True),
    (r"Open Database License", "odbl", f"{ATTRIBUTION} {SAME}", True),
    (r"eSpeak NG", "cc0-1.0", "Nobody spoke this: share it freely.", True),
)
"""Pattern in a corpus's terms -> what it means."""

BY_CONTRACT = ("The corpus is given out under terms of its own, and they are what decides: look them up, or ask the "
               "owner, before you share a file that was made from it.")
UNKNOWN = ("The terms of the corpus are not known here. Find out what they are before you share a file that was made "
           "from it.")


def terms_of(text: str) -> Terms:
    """What a corpus's terms, in a line, mean for sharing."""
    for pattern, name, sharing, is_open in KNOWN:
        if re.search(pattern, text):
            return Terms(text, name, sharing, is_open)
    if not text or text.startswith("not known"):
        return Terms(text or "not known", "unknown", UNKNOWN, False)
    return Terms(text, "other", BY_CONTRACT, False)


def terms_by_name(corpus: str) -> Terms:
    """The same of a corpus that `prepare` knows by its name; unknown for others."""
    return terms_of(next((known.terms for known in CORPORA.values() if known.name == corpus), ""))
