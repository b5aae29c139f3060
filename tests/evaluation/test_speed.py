from pathlib import Path

import pytest
from networks import save_untrained_model

from seqkd.evaluation import speed
from seqkd.models import checkpoint


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (["der Kater saß", "", "auf der  Matte"], 6),
        (["สวัสดี", "日本語 text"], 6),  # two letters of a script without spaces count as one word
    ],
)
def test_speed_counts_the_words_of_the_source_in_its_script(
    sources: list[str], words: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_seconds", lambda *arguments, **options: 2.0)
    model = checkpoint.load(save_untrained_model(tmp_path, []))
    (measured,) = speed.measure({"m": model}, sources, beams=[1], length_penalty=1.0, rounds=1)
    assert measured.words_per_second == words / 2
