"""Text files in the encodings that people have, and names shown in one line."""

import codecs
import unicodedata
from pathlib import Path

from ..errors import UserError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),  # before UTF-16, whose mark begins alike
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str | Path, also: tuple[str, ...] = ()) -> str:
    """The text of a file in UTF-8 or UTF-16, with or without a byte order mark; else in one of `also`, in their order.

    A missing file, and bytes that fit no encoding, are a UserError.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be read ({error.strerror}). Check the path.") from None
    if data.startswith(b"PK\x03\x04"):
        raise UserError(f"{shown(path)}: a spreadsheet or another ZIP file; expected text. Export it as CSV.")
    encodings = _encodings(data, also)
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UserError(f"{shown(path)}: found bytes that are not {' or '.join(encodings)}; expected text in UTF-8 or "
                    "UTF-16. Save it as UTF-8.")


def _encodings(data: bytes, also: tuple[str, ...]) -> tuple[str, ...]:
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return (encoding,)
    if b"\0" in data[:1000]:  # no text in UTF-8 has a zero byte, Latin text in UTF-16 has one a letter
        return ("utf-16-be",) if data[0] == 0 else ("utf-16-le",)
    return ("utf-8", *also)


NOTHING = ("", "nan", "nat", "<na>", "n/a", "none", "null")
"""What programs write for an empty field, in small letters; R's NA is one in capitals alone."""


def value_of(text: str) -> str:
    """A field's text without spaces around it; '' for the words that programs write where there is nothing."""
    text = text.strip()
    return "" if text == "NA" or text.casefold() in NOTHING else text


def tidied(name: str) -> str:
    """A name as people see it: in Unicode's composed form (NFC), without its invisible letters (category Cf).

    Not for names of files, which are found by their bytes alone.
    """
    if name.isascii():
        return name
    visible = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return value_of(unicodedata.normalize("NFC", visible))


def shown(value: object) -> str:
    """A name as it can be printed in one line: what is not printable (line ends, bytes without a letter) is escaped."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in str(value))


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def is_text(value: object) -> bool:
    """Whether a name can be written as UTF-8, which JSON needs; names of files may hold any bytes."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True
