"""Words of a text, also of one in a script that is written without spaces."""

import re

# Thai, Lao, Tibetan, Burmese, Khmer, Tai and Javanese scripts; kana, bopomofo, Han with its extensions.
UNSPACED_RANGES = (
    r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf"
    r"\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f"
    r"\U00020000-\U0003ffff"
)
UNSPACED = re.compile(f"[{UNSPACED_RANGES}]")


def count_words(text: str) -> int:
    """Return the number of words; two letters of a script that is written without spaces count as one."""
    unspaced = len(UNSPACED.findall(text))
    if not unspaced:
        return len(text.split())
    return len(UNSPACED.sub(" ", text).split()) + (unspaced + 1) // 2
