"""TensorBoard in a browser: its pages show the data of the runs that they are of."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
]

SEQUENCE = """
tasks:
  - {env: CartPole-v1, steps: 1024}
  - {env: CartPole-v1, steps: 1024, shifts: [{shift: dynamics, set: {length: 1.0}}]}
"""
SMALL = "--num-envs 4 --agent.network.hidden [8] --agent.n_steps 32 --agent.batch_size 64 --probe on".split()
METHODS = ("none", "spectral")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a run of each method, under ``runs``."""
    tmp = tmp_path_factory.mktemp("board")
    (tmp / "poles.yaml").write_text(SEQUENCE)
    found = {}
    for method in METHODS:
        argv = ["--env", str(tmp / "poles.yaml"), "--reg", method, *SMALL, "--out", str(tmp / "runs")]
        assert continual_rl.main([*argv, "--evaluate-all", "--evaluate-episodes", "2"]) == 0
        found[method] = parse(argv)[0].folder
    return found


@pytest.fixture(scope="module")
def board(folders: dict[str, Path]) -> Iterator[Any]:
    """A page of a browser in which TensorBoard shows the runs, and its address."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logdir = folders["none"].parents[2]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port"]
    server = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/data/runs", server)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1500, "height": 1300})
            page.set_default_timeout(30_000)
            yield page, address
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """Until TensorBoard has found both runs."""
    for _ in range(300):
        assert server.poll() is None, "TensorBoard has ended"
        try:
            if urllib.request.urlopen(address, timeout=5).read().count(b"seed-0") == len(METHODS):
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("TensorBoard does not answer")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "tasks.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_custom_scalars_tell_the_story(board: Any) -> None:
    page, address = board
    page.goto(f"{address}/#custom_scalars")
    page.get_by_text("1 · Does it learn each task?").wait_for()
    titles = [text.strip() for text in page.locator(".category-name").all_text_contents()]
    assert titles[:3] == [
        "1 · Does it learn each task?",
        "2 · Can the actor still learn?",
        "3 · Can the critic still learn?",
    ]
    matches = page.get_by_text("Matches (")
    matches.nth(3).wait_for()
    page.wait_for_function("!document.body.innerText.includes('Matches (0)')")
    charts = page.locator("tf-custom-scalar-multi-line-chart-card")
    charts.filter(has_text="Return, a line for each task").get_by_text("Matches (4)").wait_for()  # tasks × methods
    charts.filter(has_text="Actor: σ_max").get_by_text("Matches (2)").wait_for()
    assert page.get_by_text("Matches (0)").count() == 0


def test_images_are_drawn(board: Any) -> None:
    page, address = board
    page.goto(f"{address}/#images")
    page.get_by_text("answers/0 the run so far").first.wait_for()
    page.wait_for_function(
        """() => { const all = []; const walk = (node) => { for (const child of node.querySelectorAll('*')) {
            if (child.tagName === 'IMG') all.push(child); if (child.shadowRoot) walk(child.shadowRoot); } };
            walk(document); return all.filter((image) => image.naturalWidth > 300).length >= 4; }"""
    )


def test_histograms_of_spectra(board: Any) -> None:
    page, address = board
    page.goto(f"{address}/#histograms")
    for network in ("actor/mlp_extractor.policy_net.0", "critic/mlp_extractor.value_net.0"):
        assert page.get_by_text(f"singular_values/{network}").first.inner_text()
    page.locator("vz-histogram-timeseries path").nth(3).wait_for(state="attached")


def test_texts_answer(board: Any, folders: dict[str, Path]) -> None:
    page, address = board
    page.goto(f"{address}/#text")
    for method in METHODS:
        end = f"{float(rows(folders[method])[1]['return_final']):.3g}"
        page.locator("td", has_text=end).first.wait_for()
    page.locator("td", has_text="2 CartPole-v1 length 1").first.wait_for()
    page.locator("td", has_text="σ_max, the largest singular value of its layers").first.wait_for()
    page.get_by_text("Lost on average:").first.wait_for()


@pytest.mark.full
def test_hparams_compare_the_runs(board: Any, folders: dict[str, Path]) -> None:
    page, address = board
    page.goto(f"{address}/#hparams")
    table = page.locator("tf-hparams-table-view")
    for method in METHODS:
        table.get_by_text(method, exact=True).first.wait_for()
        means = [float(row["return_mean"]) for row in rows(folders[method])]
        shown = f"{sum(means) / len(means):.5g}"
        table.get_by_text(shown[:5]).first.wait_for()
    assert table.get_by_text("return, mean over tasks").count() >= 1


def test_scalars_of_each_network(board: Any) -> None:
    page, address = board
    page.goto(f"{address}/#timeseries")
    page.get_by_text("actor/spectral_norm_max").first.wait_for()
