"""The page: all figures with their words and numbers in one HTML file that needs no server and no network."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from plotly.offline import get_plotlyjs

from neoteny import __version__
from neoteny.runners.reports import provenance, settings
from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.figures import DASHES, Cell, Dots, Figure, Panel, short
from neoteny.runners.reports.interactive import plot
from neoteny.runners.reports.section import Section

HERE = Path(__file__).parent
#: Lines of a table in the page, at most; files have all.
LONGEST = 200
ABOUT_RUNS = (
    "A row for each method. The fingerprint is that of the tasks: the same fingerprint, the same tasks. The command "
    "makes such runs, as far as the folder's name says; each run's config.yaml has all settings."
)
#: The classes of cells that begin with a verdict.
VERDICTS = {"learned": "good", "not learned": "bad", "partly learned": "between", "not sure": "between"}
#: Rows of a comparison of settings, at most.
SETTINGS = 60


def page(title: str, command: str, sections: Sequence[Section], files: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        title: of the report.
        command: that made it.
        sections: one for each sequence.
        files: where each section's CSVs are, relative to the page, by the sequence's name.
    """
    body = [
        part for number, each in enumerate(sections, 1) for part in _section(f"s{number}", each, files[each.env.name])
    ]
    contents = "".join(
        f'<li><a href="#s{number}">{escape(each.env.name)}</a><ul>{_contents(f"s{number}", each)}</ul></li>'
        for number, each in enumerate(sections, 1)
    )
    script = (HERE / "page.js").read_text()
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            '<link rel="icon" href="data:,">',
            f"<style>{(HERE / 'page.css').read_text()}</style></head><body>",
            f"<header><h1>{escape(title)}</h1>",
            f"<p>Made by Neoteny {escape(__version__)} with <code>{escape(command)}</code>. Intervals are 95 % "
            "bootstrap intervals over runs. Of three runs the interval is at most their range, and in truth wider; "
            "of one run there is none.</p></header>",
            f'<nav aria-label="Contents"><h2>Contents</h2><ol>{contents}</ol></nav>',
            f"<main>{''.join(body)}</main>",
            f"<script>{get_plotlyjs()}</script>",
            f"<script>{script}</script>",
            "</body></html>",
        ]
    )


def _contents(at: str, section: Section) -> str:
    headings = [("answers", "The answers"), ("what-was-run", "What was run")]
    headings += [(figure.key, figure.title) for figure in section.figures]
    return "".join(f'<li><a href="#{at}-{key}">{escape(title)}</a></li>' for key, title in headings)


def _section(at: str, section: Section, files: str) -> Iterator[str]:
    env = section.env
    yield f'<section id="{at}" aria-labelledby="{at}-title"><h2 id="{at}-title">{escape(env.name)}</h2>'
    yield f'<section class="answers" id="{at}-answers"><h3>The answers</h3><dl>'
    for answer in section.answers:
        link = f'<a href="#{at}-{answer.key}">see</a>'
        lines = "".join(f"<li>{escape(line)}</li>" for line in answer.lines)
        more = f"<ul>{lines}</ul>" if lines else ""
        yield f"<dt>{escape(answer.question)}</dt><dd><b>{escape(answer.lead)}</b> {link}{more}</dd>"
    yield "</dl></section>"
    yield from _what_was_run(at, env)
    for figure in section.figures:
        yield from _figure(at, env, figure, files)
    yield "</section>"


def _what_was_run(at: str, env: Environment) -> Iterator[str]:
    yield f'<section id="{at}-what-was-run"><h3>What was run</h3>'
    yield f'<p class="how">{escape(ABOUT_RUNS)}</p>'
    if gaps := settings.missing(env):
        yield '<div class="missing" role="note"><h4>Missing or unfinished</h4><ul>'
        yield "".join(f"<li>{escape(line)}</li>" for line in gaps) + "</ul></div>"
    yield _table(settings.methods(env), "Methods, seeds and commands")
    parts = _table(provenance.made_with(env), "Versions and processors")
    yield _folded("What the runs were made with: versions and processors", parts)
    yield f"<details><summary>The tasks ({len(env.tasks)})</summary><ol>"
    for _, end, name in env.bands:
        yield f"<li>{escape(name.partition(' ')[2] or name)}, until step {short(end)}</li>"
    yield "</ol></details>"
    if differing := settings.differing(env):
        yield "<h4>Settings that differ between methods</h4>" + _table(
            differing[:SETTINGS], "Settings that differ", "differs"
        )
        if len(differing) > SETTINGS:
            yield f"<p>And {len(differing) - SETTINGS} more, in settings.csv.</p>"
    if common := settings.common(env):
        rows: list[Mapping[str, Cell]] = [{"setting": key, "value": value} for key, value in common.items()]
        yield _folded(f"The settings that all runs share ({len(common)})", _table(rows, "Shared settings"))
    yield "</section>"


def _figure(at: str, env: Environment, figure: Figure, files: str) -> Iterator[str]:
    yield f'<section id="{at}-{figure.key}"><h3>{escape(figure.title)}</h3><p class="how">{_text(figure.how)}</p>'
    if figure.says:
        yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in figure.says) + "</ul>"
    if figure.pick:
        yield _picker(env, _drawn(figure))
    if figure.panels:
        yield (
            '<div class="panels">'
            + "".join(_panel(f"{at}-{figure.key}-{i}", p) for i, p in enumerate(figure.panels))
            + "</div>"
        )
    if figure.table and not figure.panels:
        yield _table(figure.table, figure.title)
    elif figure.panels:
        rows = figure.table or figure.rows()
        yield _folded(f"The numbers of “{figure.title}” as a table", _table(rows, figure.title))
    if figure.panels or figure.table:
        names = [f"{figure.key}.csv"] * bool(figure.panels) + [f"{figure.key}-table.csv"] * bool(figure.table)
        names += [f"{figure.key}.png", f"{figure.key}.svg"] * bool(figure.panels)
        links = ", ".join(f'<a href="{escape(files + name)}">{escape(name)}</a>' for name in names)
        yield f'<p class="files">Files beside this page: {links}</p>'
    yield "</section>"


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _panel(key: str, panel: Panel) -> str:
    data = (
        json.dumps(plot(panel), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
    )
    words = panel.words()
    said = words.removeprefix(f"{panel.title}. ")
    return (
        f'<figure><figcaption><b>{escape(panel.title)}</b><span class="words">{escape(said)}</span></figcaption>'
        f'<div class="plot" id="{escape(key)}" role="img" aria-label="{escape(words)}"></div>'
        f'<script type="application/json" class="of-plot">{data}</script></figure>'
    )


def _drawn(figure: Figure) -> set[str]:
    """What the methods are called that a figure has something of."""
    marks = [mark for panel in figure.panels for mark in panel.marks]
    return {name for mark in marks for name in (mark.names if isinstance(mark, Dots) else [mark.name])}


def _picker(env: Environment, drawn: Container[str]) -> str:
    boxes, methods = [], [method for method in env.methods if env.called[method] in drawn]
    for method in methods:
        style = env.styles[method]
        dash = {"solid": "none", "dash": "6 3", "dot": "2 3", "dashdot": "7 3 2 3"}[DASHES[style.dash][0]]
        line = (
            f'<svg width="26" height="8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4" stroke="{style.color}" '
            f'stroke-width="3" stroke-dasharray="{dash}"/></svg>'
        )
        name = env.called[method]
        checked = " checked" if style.shown else ""
        box = f'<input type="checkbox" data-method="{escape(name)}"{checked}>'
        boxes.append(f"<label>{box}{line}<span>{escape(name)}</span></label>")
    hidden = sum(not env.styles[method].shown for method in methods)
    note = f" ({hidden} of {len(methods)} are not shown at first)" if hidden else ""
    return f'<fieldset class="methods"><legend>Methods shown{note}</legend><div>{"".join(boxes)}</div></fieldset>'


def _table(rows: Sequence[Mapping[str, Cell]], caption: str, kind: str = "") -> str:
    columns = list({key: None for row in rows for key in row})
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        "<tr>" + "".join(_cell(row.get(column), column == columns[0]) for column in columns) + "</tr>"
        for row in rows[:LONGEST]
    )
    more = f"<p>And {len(rows) - LONGEST} more rows, in the CSV.</p>" if len(rows) > LONGEST else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="{kind}">'
        f'<caption class="unseen">{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{more}"
    )


def _cell(value: Cell, first: bool) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        text = "—" if math.isnan(value) else short(value)
        return f'<td class="number">{text}</td>'
    text = escape(str(value or ""))
    if first:
        return f'<th scope="row">{text}</th>'
    kind = VERDICTS.get(text.partition(":")[0])
    return f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>"


def _text(text: str) -> str:
    """Escaped, with `code` between backticks."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
