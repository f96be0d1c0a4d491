"""The front as pictures: a page that can be explored, which holds all that it needs, and a PNG."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.errors import UnfitEnvironmentError
from builder.reports.plain import value_text
from builder.search.front import front_of
from builder.search.settings import Search
from builder.search.table import cells, counted, headings, point_text
from builder.search.trials import Trial
from builder.util.install import extra
from builder.util.text import visible

FRONT, OTHERS, MISSED = "#0072b2", "#999999", "#d55e00"
"""Blue, grey and vermilion of Okabe and Ito, which most colour-blind people tell apart."""
MOST_PAIRS = 3
_CONTROLS = {"displaylogo": False, "responsive": True}

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{title}</title>
<style>body {{ font-family: system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse }} th, td {{ padding: .2rem .8rem; text-align: right }}
th:nth-child(2), td:nth-child(2) {{ text-align: left }} tr.winner {{ font-weight: bold }}</style></head><body>
<h1>{title}</h1>
<p>{counts}. Point at a trial for its settings; drag along an axis of the lower plot to keep a range.</p>
{scatter}{parallel}
<h2>The front</h2><table>{table}</table></body></html>
"""

_POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
"""What a browser may load for the page: nothing but what is in it. The plots are plotly's, whose WebGL is generated."""


def write_page(file: Path, title: str, trials: Sequence[Trial], winner: Trial | None, search: Search) -> None:
    """Write the page, which needs no network; raises UnfitEnvironmentError where plotly is missing."""
    try:
        import plotly.io
    except ImportError as error:
        raise UnfitEnvironmentError(
            "the plot of a search needs plotly, which is not installed",
            code="B0701",
            hint=extra("search"),
        ) from error

    def div(figure: object, name: str, *, first: bool) -> str:
        return str(plotly.io.to_html(figure, include_plotlyjs=first, full_html=False, div_id=name, config=_CONTROLS))

    measured = [trial for trial in trials if trial.values]
    page = _PAGE.format(
        policy=_POLICY,
        title=_text(title),
        counts=_text(counted(trials)),
        scatter=div(_scatter(trials, winner, search), "front", first=True),
        parallel=div(_parallel(measured, search), "settings", first=False) if measured else "",
        table=_table(front_of(trials, search.objectives), winner, search),
    )
    file.write_text(page, encoding="utf-8")


def _pairs(search: Search) -> list[tuple[str, str]]:
    """What is plotted against what; a single objective against the number of the trial (an empty name)."""
    names = list(search.objectives)
    return list(itertools.combinations(names, 2))[:MOST_PAIRS] or [("", names[0])]


def _groups(trials: Sequence[Trial], search: Search) -> list[tuple[str, str, list[Trial]]]:
    """The measured trials by how they are drawn, in the order in which they are."""
    front = front_of(trials, search.objectives)
    kept = {trial.number for trial in front}
    others = [trial for trial in trials if trial.state == "complete" and trial.number not in kept]
    missed = [trial for trial in trials if trial.state == "infeasible"]
    return [("a limit is missed", MISSED, missed), ("beaten", OTHERS, others), ("front", FRONT, front)]


def _coordinate(trial: Trial, name: str) -> float | None:
    value = float(trial.number) if not name else trial.values[name]
    return value if math.isfinite(value) else None


def _axis(name: str, search: Search) -> str:
    if not name:
        return "trial"
    objective = search.objectives[name]
    return f"{name}: {objective.measure} ({objective.goal})"


def _scatter(trials: Sequence[Trial], winner: Trial | None, search: Search) -> Any:
    from plotly.subplots import make_subplots

    pairs = _pairs(search)
    figure = make_subplots(rows=1, cols=len(pairs))
    for column, (x, y) in enumerate(pairs, start=1):
        for name, color, group in _groups(trials, search):
            figure.add_scatter(
                x=[_coordinate(t, x) for t in group],
                y=[_coordinate(t, y) for t in group],
                text=[_described(t, search) for t in group],
                hovertemplate="%{text}<extra></extra>",
                mode="lines+markers" if name == "front" and len(pairs) == 1 else "markers",
                line={"shape": "hv" if x else "linear", "width": 1, "dash": "dot"},
                marker={
                    "color": color,
                    "size": [14 if winner and t.number == winner.number else 9 for t in group],
                    "symbol": ["star" if winner and t.number == winner.number else "circle" for t in group],
                },
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text=_axis(x, search), row=1, col=column)
        figure.update_yaxes(title_text=_axis(y, search), row=1, col=column)
    figure.update_layout(height=480, template="plotly_white", margin={"t": 30}, legend={"orientation": "h", "y": 1.1})
    return figure


def _text(text: str) -> str:
    """A text of a recipe as HTML."""
    return html.escape(visible(text))


def _described(trial: Trial, search: Search) -> str:
    """What a trial says when it is pointed at."""
    lines = [f"<b>trial {trial.number}</b>", *(_text(part) for part in point_text(trial).split(", "))]
    lines += [_text(f"{name}: {text}") for name, text in zip(headings(search), cells(trial, search), strict=False)]
    return "<br>".join([*lines, *([_text(trial.reason)] if trial.reason else [])])


def _parallel(trials: Sequence[Trial], search: Search) -> Any:
    """A line for each trial through all its settings and objectives, in the colour of its last objective."""
    import plotly.graph_objects as graph

    dimensions = [_dimension(name, [trial.point.get(name) for trial in trials]) for name in search.space]
    dimensions += [_dimension(name, [trial.values[name] for trial in trials]) for name in search.objectives]
    line = {"color": dimensions[-1]["values"], "colorscale": "Viridis", "showscale": True}
    figure = graph.Figure(graph.Parcoords(dimensions=dimensions, line=line))
    figure.update_layout(height=420, template="plotly_white")
    return figure


def _dimension(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """One axis: numbers as they are, texts one above the other.

    Infinite numbers stand beyond the others, and below all `–` for trials that lack the setting.
    """
    texts = list(dict.fromkeys(value for value in values if isinstance(value, str)))
    if texts:
        place: dict[object, float] = {text: float(index) for index, text in enumerate(texts)}
        ticks = dict(zip(texts, place.values(), strict=True))
    else:
        place = {value: float(value) for value in values if value is not None and math.isfinite(value)}
        ends = (min(place.values(), default=0.0), max(place.values(), default=0.0))
        ticks = {f"{end:.4g}": end for end in ends}
    low, high = min(place.values(), default=0.0), max(place.values(), default=0.0)
    step = (high - low) / 5 or 1.0
    beyond = {math.inf: ("inf", high + step), -math.inf: ("-inf", low - step), None: ("–", low - 2 * step)}
    found = {value: told for value, told in beyond.items() if value in values}
    for value, (text, where) in found.items():
        place[value] = ticks[text] = where
    axis = {"label": name, "values": [place[value] for value in values]}
    return axis if not texts and not found else {**axis, "tickvals": [*ticks.values()], "ticktext": [*ticks]}


def _table(front: Sequence[Trial], winner: Trial | None, search: Search) -> str:
    head = "".join(f"<th>{_text(text)}</th>" for text in ("trial", "settings", *headings(search)))
    rows = [
        f"<tr{' class=winner' if winner and t.number == winner.number else ''}>"
        + "".join(f"<td>{_text(text)}</td>" for text in (str(t.number), point_text(t), *cells(t, search)))
        + "</tr>"
        for t in front
    ]
    return f"<tr>{head}</tr>{''.join(rows)}"


def write_picture(file: Path, title: str, trials: Sequence[Trial], winner: Trial | None, search: Search) -> None:
    """Write the same scatter as a PNG, with the numbers of the trials on the front."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pairs = _pairs(search)
    figure = Figure(figsize=(7 * len(pairs), 5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (x, y) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        for name, color, group in _groups(trials, search):
            placed = [(t, _coordinate(t, x), _coordinate(t, y)) for t in group]
            drawn = [(t, a, b) for t, a, b in placed if a is not None and b is not None]
            axes.scatter([a for _, a, _ in drawn], [b for _, _, b in drawn], c=color, label=name, s=30)
            for trial, a, b in drawn if name == "front" else ():
                wins = winner is not None and trial.number == winner.number
                text = f"{trial.number}, the winner" if wins else str(trial.number)
                axes.annotate(text, (a, b), textcoords="offset points", xytext=(5, 5), color=color)
        axes.set_xlabel(_axis(x, search))
        axes.set_ylabel(_axis(y, search))
        axes.grid(alpha=0.3)
        axes.legend()
        if x and search.objectives[x].measure.endswith("bytes"):
            axes.xaxis.set_major_formatter(lambda value, _: value_text("bytes", value))
    figure.savefig(file, format="png", dpi=120)
