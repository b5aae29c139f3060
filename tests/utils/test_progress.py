import pytest

from seqkd.utils.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test sets."""
    now = [0.0]
    monkeypatch.setattr("seqkd.utils.progress.time.monotonic", lambda: now[0])
    return now


def test_progress_rate_leaves_out_the_first_piece_which_compiles(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(1_200, unit="words", label="teacher", done=100) as bar:
        for clock[0], words in ((30.0, 100), (40.0, 100), (50.0, 300)):
            bar.add(words)
    assert capsys.readouterr().err.splitlines() == [
        "teacher: 600 of 1,200 words, 20/s, 30 s left",
        "teacher: 600 words in 50 s",
    ]


def test_progress_writes_a_line_every_fifteen_seconds_with_the_last_note(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(400, unit="pairs", label="decode") as bar:
        for second in range(41):
            clock[0] = float(second)
            bar.add(10, note="beam 5" if second == 3 else "")
    assert capsys.readouterr().err.splitlines() == [
        "decode: 160 of 400 pairs, 10/s, 24 s left, beam 5",
        "decode: 310 of 400 pairs, 10/s, 9 s left, beam 5",
        "decode: 410 pairs in 40 s, beam 5",
    ]


def test_progress_of_failed_work_has_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(2, unit="pairs", label="decode")
    with pytest.raises(ValueError, match="no"), bar:
        raise ValueError("no")
    assert not capsys.readouterr().err
