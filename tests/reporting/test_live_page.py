"""The page of running trainings: what it answers, to whom, and how it looks in a browser."""

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from browsers import CHROMIUM, IN_BROWSER
from playwright.sync_api import ViewportSize, sync_playwright

from seqkd.reporting import live_page
from seqkd.training.live import LiveLog
from seqkd.utils.errors import InputError

NAME = "<img src=x onerror=hacked>"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of a server that shows one training."""
    log = LiveLog(tmp_path / NAME, step=0)
    log.add(1, {"train/loss": 1.0})
    with (tmp_path / NAME / "plots/metrics/train/loss.tsv").open("a") as file:
        file.writelines(f"{step}\t{1 / step}\n" for step in range(2, 1001))
    log.end_epoch(1000, dev_perplexity=17.25)
    with live_page.server(tmp_path, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def _get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={"Host": f"{host}:{port}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_live_page_answers_what_trainings_told(port: int) -> None:
    (training,) = json.loads(_get(port, "/live.json")[1])
    assert training["name"] == NAME
    assert training["metrics"]["dev/perplexity"] == [[1000, 17.25]]
    loss = training["metrics"]["train/loss"]
    assert len(loss) <= live_page.MAX_POINTS
    assert loss[-1] == [1000, 0.001]


def test_live_page_answers_this_machine_alone_and_only_its_own_files(port: int) -> None:
    assert _get(port, "/")[0] == _get(port, "/watch.js", "localhost")[0] == 200
    assert _get(port, "/live.json", "evil.example")[0] == 403
    for path in ("/../live_page.py", "/page.html", "/%2e%2e/%2e%2e/cli.py", "//etc/passwd"):
        assert _get(port, path)[0] == 404


def test_live_page_says_which_port_is_taken(port: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^port {port} is taken or closed to you; name another one with --port\.$"):
        live_page.server(tmp_path, port)


def test_live_page_of_a_folder_without_trainings_is_empty(tmp_path: Path) -> None:
    assert live_page.state(tmp_path / "nothing") == []


@pytest.mark.parametrize("size", [pytest.param({"width": 390, "height": 844}, marks=IN_BROWSER)])
def test_live_page_renews_itself(port: int, tmp_path: Path, size: ViewportSize) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=size)
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("figure.live")
        assert page.locator("h2").inner_text() == f"{NAME}: running"
        assert "17.3" in page.locator("figure", has_text="dev perplexity").inner_text()
        LiveLog(tmp_path / NAME, step=1000).add(1001, {"dev/perplexity": 4.5})
        page.wait_for_selector("strong:text('4.5')", timeout=10_000)
        assert messages == []
        browser.close()
