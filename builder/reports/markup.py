"""Small pieces of HTML and inline SVG; every text that comes from outside is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from builder.util.text import visible


@dataclass(frozen=True, kw_only=True)
class Markup:
    """HTML that is safe to insert; any other text is escaped first."""

    html: str


Content = Markup | str


def render(content: Content) -> str:
    """HTML as it is; text escaped, and its control and bidirectional characters made visible."""
    return content.html if isinstance(content, Markup) else escape(visible(content))


def join(*parts: Content) -> Markup:
    """Several pieces one after the other."""
    return Markup(html="".join(render(part) for part in parts))


def element(tag: str, *content: Content, **attributes: str) -> Markup:
    """An element; `class_` and `aria_label` stand for `class` and `aria-label`."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(visible(value))}"' for name, value in attributes.items()
    )
    return Markup(html=f"<{tag}{written}>{join(*content).html}</{tag}>")


def code(text: str) -> Markup:
    """A name, a digest or a path, in which lines may break anywhere."""
    return element("code", text)


def section(title: str, *content: Content) -> Markup:
    """A titled part of the page that a link can lead to."""
    return element("section", element("h2", title), element("div", *content, class_="body"), id=section_id(title))


def section_id(title: str) -> str:
    """What a link to the section of that title says: `Recipe as composed` is `recipe-as-composed`."""
    return title.lower().replace(" ", "-").replace("'", "")


def table(head: Sequence[str], rows: Iterable[Sequence[Content]], *, class_: str = "") -> Markup:
    """A table that scrolls on its own where the page is narrow."""
    header = element("thead", element("tr", *(element("th", name, scope="col") for name in head)))
    body = element("tbody", *(element("tr", *(element("td", cell) for cell in row)) for row in rows))
    return element("div", element("table", header, body, class_=class_), class_="scroll")


def facts(pairs: Iterable[tuple[str, Content]], *, class_: str = "facts") -> Markup:
    """Names with values, as a definition list."""
    return element(
        "dl", *(element("div", element("dt", name), element("dd", value)) for name, value in pairs), class_=class_
    )


def details(summary: Content, *content: Content) -> Markup:
    """Something that opens on demand."""
    return element("details", element("summary", summary), *content)


def bars(rows: Sequence[tuple[str, float, str]], *, label: str, most: float | None = None) -> Markup:
    """A plot of horizontal bars: each row a name, a value from 0 on, and the value as people read it."""
    most = most or max((value for _, value, _ in rows), default=0.0) or 1.0
    drawn = [
        join(element("span", name, class_="name"), bar(value / most), element("span", text, class_="value"))
        for name, value, text in rows
    ]
    return element(
        "div", *(element("div", row, class_="bar") for row in drawn), class_="bars", role="group", aria_label=label
    )


def bar(share: float) -> Markup:
    """One horizontal bar, `share` of its track filled."""
    width = f"{100 * min(max(share, 0.0), 1.0):.2f}"
    return Markup(
        html='<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="10"/><rect class="fill" width="{width}" height="10"/></svg>'
    )
