"""The demo: a real server on 127.0.0.1 answers its own page, and nothing else."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from networks import PLACEHOLDERS, TEXT, untrained_model
from source_tree import ROOT

import seqkd
from seqkd.data import placeholders
from seqkd.models import checkpoint

pytest.importorskip("starlette", reason="needs the extra demo")
pytest.importorskip("uvicorn", reason="needs the extra demo")
pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    for layers, name in ((1, "student"), (2, "teacher")):
        model = untrained_model(folder, layers=layers, texts=[*TEXT, PLACEHOLDERS])
        checkpoint.save(folder / name, model, card=f"# {HOSTILE}\n")
    return [folder / "teacher", folder / "student"]


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "seqkd", "demo", *map(str, words)]
    # A job in the background of a shell ignores Ctrl-C, and its children with it.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe, preexec_fn=heeds)  # noqa: PLW1509


@pytest.fixture(scope="module")
def port(folders: list[Path]) -> Iterator[int]:
    """A running demo's port; in the end Ctrl-C stops it with one sentence."""
    running = start(*folders, "--port", 0)
    assert running.stdout is not None
    match = re.match(r"http://127\.0\.0\.1:(\d+)/ ", running.stdout.readline())
    assert match, running.communicate()[1]
    yield int(match[1])
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=30)[1] == "seqkd demo: stopped\n"
    assert running.returncode == 128 + signal.SIGINT


def request(port: int, method: str, path: str, *, body: str | bytes = "", **headers: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=body, headers=names)
    response = connection.getresponse()
    return response.status, response.read().decode()


def ask(port: int, question: Any, **headers: str) -> tuple[int, Any]:
    headers = {"Content_Type": "application/json", **headers}
    status, text = request(port, "POST", "/translate", body=json.dumps(question), **headers)
    return status, json.loads(text) if text.startswith("{") else text


def test_demo_answers_as_each_model_translates(port: int, folders: list[Path]) -> None:
    for index, folder in enumerate(folders):
        translator = seqkd.load(folder, device="cpu")
        for text in (TEXT[0], HOSTILE, "", "two\nlines", PLACEHOLDERS):
            status, answer = ask(port, {"model": index, "text": text, "beam": 5})
            assert status == 200
            [[best]] = translator.nbest([text], beam_size=5, n=1)
            assert answer["text"] == best.text
            assert text != PLACEHOLDERS or placeholders.find(answer["text"])
            assert answer["score"] == pytest.approx(best.normalized_score, abs=1e-4)


def test_demo_shows_names_as_json_without_a_tag(port: int) -> None:
    status, html = request(port, "GET", "/")
    assert status == 200
    (data,) = re.findall(r'id="model">([^<]*)</script>', html)
    assert [model["name"] for model in json.loads(data)["models"]] == ["teacher", "student"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", ""])
def test_demo_refuses_a_request_that_names_another_host(port: int, host: str) -> None:
    assert request(port, "GET", "/", Host=host)[0] == 400
    assert ask(port, {"model": 0, "text": "a", "beam": 1}, Host=host)[0] == 400


@pytest.mark.parametrize(
    "question",
    [
        {"model": 2, "text": "a", "beam": 1},
        {"model": -1, "text": "a", "beam": 1},
        {"model": 0, "text": "a", "beam": 1000},
        {"model": 0, "text": "a" * 1001, "beam": 1},
        {"model": 0, "text": "a" * 100_000, "beam": 1},
        {"model": 0, "text": 5, "beam": 1},
        {"model": 0, "text": "a", "beam": 1, "path": "/etc/passwd"},
        ["model"],
        None,
    ],
)
def test_demo_refuses_a_wrong_question_with_a_sentence(port: int, question: object) -> None:
    status, answer = ask(port, question)
    assert status == 400
    assert "Traceback" not in answer["error"]


def test_demo_refuses_what_a_form_of_another_site_can_send(port: int) -> None:
    question = json.dumps({"model": 0, "text": "a", "beam": 1})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert request(port, "POST", "/translate", body=question, Content_Type=kind)[0] == 400
    assert request(port, "POST", "/translate", body=b"\xff{", Content_Type="application/json")[0] == 400
    assert request(port, "GET", "/translate")[0] == 405
    assert request(port, "GET", "/../params.yaml")[0] == 404


def test_demo_listens_on_this_machine_alone(port: int) -> None:
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((own, port), timeout=5).close()


def test_demo_tells_a_port_that_is_taken_and_a_folder_without_models(port: int, folders: list[Path]) -> None:
    taken = start(folders[0], "--port", port).communicate()[1]
    remedy = "choose another one with --port, or 0 for any that is free."
    assert taken == f"seqkd demo: port {port}: address already in use; {remedy}\n"
    missing = start(folders[0] / "none", "--port", 0).communicate()[1]
    assert missing.startswith("seqkd demo: ")
    assert missing.count("\n") == 1
