"""Language codes: their form, and which spellings name one language to a speech or translation model."""

import re
from typing import NewType

from scheduler.errors import BadInput

Language = NewType("Language", str)

AUTO = "auto"
LANGUAGE_MAX = 35
LANGUAGE_PATTERN = r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*\Z"
_LANGUAGE = re.compile(LANGUAGE_PATTERN)

# Codes that were replaced, and codes of three letters for what has two.
RENAMED = {
    "in": "id",
    "iw": "he",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
    "nb": "no",
    "cmn": "zh",
    "zho": "zh",
    "chi": "zh",
    "eng": "en",
    "deu": "de",
    "ger": "de",
    "fra": "fr",
    "fre": "fr",
    "spa": "es",
    "por": "pt",
    "ita": "it",
    "rus": "ru",
    "jpn": "ja",
    "kor": "ko",
    "arb": "ar",
    "ara": "ar",
    "hin": "hi",
}

# Variants that models do not tell apart. What is not listed stays its own: zh-tw, zh-hant, zh-hk, ar-eg, sr-latn.
VARIANTS = {
    "ar": ("001",),
    "cs": ("cz",),
    "da": ("dk",),
    "de": ("de", "at", "ch"),
    "el": ("gr",),
    "en": ("us", "gb", "uk", "au", "ca", "ie", "in", "nz", "sg", "za"),
    "es": ("es", "419", "ar", "cl", "co", "mx", "us"),
    "fi": ("fi",),
    "fr": ("fr", "be", "ca", "ch"),
    "he": ("il",),
    "hi": ("in",),
    "hu": ("hu",),
    "id": ("id",),
    "it": ("it", "ch"),
    "ja": ("jp",),
    "jv": ("id",),
    "ko": ("kr",),
    "ms": ("my",),
    "nl": ("nl", "be"),
    "no": ("no",),
    "pl": ("pl",),
    "pt": ("pt", "br"),
    "ro": ("ro", "md"),
    "ru": ("ru",),
    "sv": ("se", "fi"),
    "th": ("th",),
    "tr": ("tr",),
    "uk": ("ua",),
    "vi": ("vn",),
    "yue": ("hk",),
    "zh": ("cn", "sg", "cmn", "hans", "hans-cn", "hans-sg"),
}

_SAME = {f"{language}-{variant}": language for language, variants in VARIANTS.items() for variant in variants} | {
    "zh-yue": "yue"
}


def language(field: str, code: str) -> Language:
    """The one spelling of a language: lower case, hyphens, aliases followed; BadInput names the field and the limit.

    `auto` is no language: only a request's src may be that, and its reader must look first.
    """
    if code.lower() == AUTO:
        raise BadInput(field, "must be a language: auto is for the src of a request only")
    # before it becomes lower case, which makes ASCII of some letters that are none
    if len(code) > LANGUAGE_MAX or _LANGUAGE.match(code) is None:
        raise BadInput(
            field,
            f"must be a language code of at most {LANGUAGE_MAX} characters: 2 or 3 letters, "
            "then subtags of 1 to 8 letters or digits, each after a hyphen",
        )
    first, hyphen, rest = code.lower().replace("_", "-").partition("-")
    spelled = RENAMED.get(first, first) + hyphen + rest
    return Language(_SAME.get(spelled, spelled))
