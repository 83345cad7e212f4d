"""The page of a report, opened in Chromium without a network."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from varied_runs import train, vary

from neoteny import configs
from neoteny.runners import report
from neoteny.runners.reports import Section, environments, page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRAWN = "document.documentElement.dataset.drawn === 'all'"
#: Of each plot what is drawn, what should be, and what stands for those who do not see it.
PLOTS = """[...document.querySelectorAll('.plot')].map(plot => ({
    svg: plot.querySelectorAll('.main-svg').length,
    shown: plot.data ? plot.data.filter(trace => trace.visible !== false).length : 0,
    drawn: plot.querySelectorAll('.scatterlayer .trace, .heatmaplayer .hm').length,
    label: plot.getAttribute('aria-label'),
    caption: plot.closest('figure').querySelector('figcaption').innerText,
}))"""
VALUES = """plot => plot.data.filter(trace => trace.meta === 'values').map(trace => (
    {name: trace.name, x: [...trace.x], y: [...trace.y], shown: trace.visible !== false}))"""
HOSTILE = "ppo-trac-<img src=x onerror=window.hacked=1>,b=</script><script>window.hacked=2</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def three(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods, and fresh agents, of three seeds each, with a name that would like to be a program."""
    env = vary(run, tmp_path_factory.mktemp("runs") / "cart,é", ["none", "spectral", "l2"], range(3), fresh=True)
    (env / "ppo-trac-l2").rename(env / HOSTILE.replace("/", "∕"))
    return env


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page in the browser, with the network off, and what went wrong in it."""

    def __init__(self, chromium: Any, file: Path, width: int = 1200):
        context = chromium.new_context(viewport={"width": width, "height": 900}, offline=True)
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page = context.new_page()
        self.page.route(lambda url: not url.startswith(("file:", "data:", "blob:")), lambda route: route.abort())
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on(
            "console", lambda message: message.type in ("error", "warning") and self.wrong.append(message.text)
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.goto(file.as_uri())
        self.page.wait_for_function(DRAWN, timeout=60_000)

    def all(self, script: str) -> Any:
        return self.page.evaluate(script)

    def check(self) -> None:
        """Nothing went wrong, nothing was asked for, everything is drawn and nothing hangs over."""
        assert self.wrong == []
        assert [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))] == []
        assert self.all("window.hacked") is None
        plots = self.all(PLOTS)
        assert plots
        for plot in plots:
            assert plot["svg"] >= 1
            assert plot["drawn"] == plot["shown"] > 0
            assert len(plot["label"]) > 20
            assert plot["caption"]
        assert self.all("document.documentElement.scrollWidth <= window.innerWidth")
        assert self.all(
            "[...document.querySelectorAll('.plot')].every(p => p.getBoundingClientRect().right <= innerWidth)"
        )

    def values(self, plot: str) -> list[dict[str, Any]]:
        """The traces of a plot that have its values."""
        found: list[dict[str, Any]] = self.all(f"({VALUES})(document.getElementById('{plot}'))")
        return found


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def out(three: Path) -> Path:
    assert report.main([str(three)]) == 0
    return three / "report"


@pytest.fixture(scope="module")
def opened(out: Path, chromium: Any) -> Opened:
    return Opened(chromium, out / "report.html")


def test_three_methods_of_three_seeds(out: Path, opened: Opened) -> None:
    opened.check()
    assert opened.all("document.querySelectorAll('.plot').length") >= 20
    assert opened.all("document.querySelectorAll('figure').length === document.querySelectorAll('.plot').length")
    for link in opened.all("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))"):
        assert opened.all(f"document.getElementById('{link}') !== null"), link
    for name in opened.all("[...document.querySelectorAll('.files a')].map(a => decodeURI(a.getAttribute('href')))"):
        assert (out / name).is_file(), name


def test_numbers_in_the_page_are_those_of_the_files(out: Path, opened: Opened) -> None:
    panel = opened.all("document.getElementById('s1-learning-curves-0').closest('figure').querySelector('b').innerText")
    rows = [row for row in read(out / "figures/learning-curves.csv") if row["y"] and row["panel"] == panel]
    for trace in opened.values("s1-learning-curves-0"):
        name = trace["name"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        own = [row for row in rows if row["method"] == name]
        assert trace["x"] == [float(row["x"]) for row in own]
        assert trace["y"] == [float(row["y"]) for row in own]
    dots = [row for row in read(out / "figures/comparison.csv") if row["panel"].startswith("interquartile")]
    (trace,) = opened.values("s1-comparison-0")
    assert trace["x"] == [float(row["value"]) for row in dots]
    heat = opened.all("document.getElementById('s1-evaluation-matrix-1').data[0].z.map(line => [...line])")
    panel = opened.all(
        "document.getElementById('s1-evaluation-matrix-1').closest('figure').querySelector('b').innerText"
    )
    cells = [float(row["value"]) for row in read(out / "figures/evaluation-matrix.csv") if row["panel"] == panel]
    assert np.ravel(heat).tolist() == cells


def test_numbers_are_those_of_the_runs(three: Path, out: Path) -> None:
    """Counted again from the runs' tables, by scipy."""
    seeds = sorted((three / "ppo-trac-spectral").iterdir())
    curve = [
        row
        for row in read(out / "figures/learning-curves.csv")
        if row["method"] == "ppo-trac-spectral" and "scaled" not in row["panel"]
    ]
    last = [[row for row in read(seed / "progress.csv") if row["rollout/return"]][-1] for seed in seeds]
    row = next(row for row in curve if float(row["x"]) >= float(last[0]["step"]))  # its bin ends there or after it
    assert float(row["y"]) == pytest.approx(np.mean([float(row["rollout/return"]) for row in last]))
    means = {
        method: np.array(
            [
                [float(row["return_mean"]) for row in read(seed / "tasks.csv")]
                for seed in sorted((three / method).iterdir())
            ]
        )
        for method in ("ppo-trac-spectral", "ppo-trac,fresh-none")
    }
    scores = means["ppo-trac-spectral"] / means["ppo-trac,fresh-none"].mean(0)
    (row,) = [row for row in read(out / "figures/comparison-table.csv") if row["method"] == "ppo-trac-spectral"]
    assert float(row["IQM"]) == pytest.approx(stats.trim_mean(scores.ravel(), 0.25))
    for role in ("actor", "critic"):
        column = f"{role}/spectral_norm_max"
        ends = [[row[column] for row in read(seed / "progress.csv") if row[column]][-1] for seed in seeds]
        drift = [row for row in read(out / "figures/drift.csv") if row["panel"].startswith(f"{role}: largest singular")]
        own = [float(row["y"]) for row in drift if row["method"] == "ppo-trac-spectral"]
        assert own[-1] == pytest.approx(np.mean([float(end) for end in ends]))


def test_figures_are_drawn_to_files_too(out: Path) -> None:
    for key in ("learning-curves", "drift", "comparison", "evaluation-matrix", "plasticity-against-fresh", "cost"):
        assert (out / f"figures/{key}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (out / f"figures/{key}.svg").read_text()


def test_names_are_no_programs(out: Path) -> None:
    text = (out / "report.html").read_text()
    assert "<img" not in text
    assert "</script><script>window" not in text
    assert "&lt;img src=x" in text


def made(env: Path, file: Path) -> Path:
    """The page alone."""
    sections = [Section(each) for each in environments([env])]
    file.write_text(page(f"Report: {env.name}", "report.py", sections, {s.env.name: "figures/" for s in sections}))
    return file


@pytest.mark.full
def test_twenty_five_methods_at_the_width_of_a_phone(run: Path, tmp_path: Path, chromium: Any) -> None:
    names = configs.names("regs")[:25]
    assert len(names) == 25
    file = made(vary(run, tmp_path / "runs", names, range(2)), tmp_path / "page.html")
    opened = Opened(chromium, file, 390)
    opened.check()
    assert opened.all("document.querySelectorAll('.methods')[0].querySelectorAll('input').length") == 25

    def shown(plot: str) -> int:
        return sum(trace["shown"] for trace in opened.values(plot))

    before = shown("s1-learning-curves-0")
    assert 4 <= before <= 7
    opened.page.locator(".methods input:not(:checked)").first.check()
    assert shown("s1-learning-curves-0") == shown("s1-drift-0") == before + 1
    assert opened.wrong == []


@pytest.mark.full
def test_a_run_that_was_trained_alone(run: Path, tmp_path: Path, chromium: Any) -> None:
    """One seed, one method, and no fresh agents: no intervals, and it says what is not known."""
    opened = Opened(chromium, made(run, tmp_path / "page.html"), 390)
    opened.check()
    text = opened.all("document.body.innerText")
    assert "There is one method here" in text
    assert "there are no fresh agents to compare with" in text
    (trace,) = opened.values("s1-learning-curves-0")
    assert trace["y"] == [float(row["rollout/return"]) for row in read(run / "progress.csv") if row["rollout/return"]]
    traces = opened.all("[...document.querySelectorAll('.plot')].flatMap(plot => plot.data).map(trace => trace.meta)")
    assert {"low", "high", "interval"}.isdisjoint(traces)
