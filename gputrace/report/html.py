"""Write a trace as one HTML page that needs nothing else, with a field to search."""

from collections.abc import Iterator
from html import escape

from gputrace.report.text import TextView, outcome_lines
from gputrace.report.walk import Decoded, Rung
from gputrace.trace.events import Outcome
from gputrace.trace.source import Source

_STYLE = """
body { font: 13px/1.45 ui-monospace, monospace; margin: 1.5em; color: #1b1f24; background: #fff }
summary { cursor: pointer; background: #eef2f6; padding: 1px 6px; margin-top: 2px }
.cpu { color: #57606a } .end { background: #ffe2e0 } .bad { color: #b3261e }
p { margin: 0; white-space: pre-wrap; padding-left: 4.5em; text-indent: -4em }
p:target { background: #fff3b8 } input { font: inherit; width: 30em }
@media (prefers-color-scheme: dark) {
  body { color: #d8dee4; background: #14181c } summary { background: #232a31 }
  .cpu { color: #8b949e } .end { background: #5c1f1b } .bad { color: #ff9b94 }
  p:target { background: #57480b }
}
"""
_SCRIPT = """
const field = document.querySelector('input');
field.addEventListener('input', () => {
  const wanted = field.value.toLowerCase();
  for (const line of document.querySelectorAll('p'))
    line.hidden = wanted !== '' && !line.textContent.toLowerCase().includes(wanted);
  for (const part of document.querySelectorAll('details')) {
    const found = part.querySelector('p:not([hidden])') !== null;
    part.hidden = wanted !== '' && !found;
    part.open = found && (wanted !== '' || part.querySelector('.end') !== null);
  }
});
"""


def html_lines(source: Source, title: str, outcome: Outcome | None = None) -> Iterator[str]:
    """Yield the lines of the page. Each packet can be linked to, as `#q0-12`."""
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    yield f"<style>{_STYLE}</style><h1>{escape(title)}</h1>"
    if outcome is not None:
        link = f'<a href="#q{outcome.queue}-{outcome.packet}">' if outcome.packet >= 0 else "<a>"
        yield f"{link}<b>{escape(next(outcome_lines(outcome)))}</b></a>"
    yield '<div>show only lines with <input type="search"></div>'
    yield from _body(TextView(source, outcome=outcome), outcome)
    yield f"<script>{_SCRIPT}</script></html>"


def _body(view: TextView, outcome: Outcome | None) -> Iterator[str]:
    inside = False
    seen: set[str] = set()
    for item, lines in view.items():
        if inside and not isinstance(item, Decoded):
            inside = False
            yield "</details>"
        match item:
            case Rung():
                inside = True
                open_now = " open" if _holds(item, outcome) else ""
                yield f"<details{open_now}><summary>{escape(lines[0])}</summary>"
                yield from (_line(line, "bad") for line in lines[1:])
            case Decoded(placed):
                name = f"q{placed.queue}-{placed.number}"
                kind = "end" if view.marks(item) else "bad" if placed.record is None else ""
                first = "" if name in seen else name
                seen.add(name)
                yield from (_line(line, kind, first) for line in lines)
            case _:
                yield from (_line(line, "cpu") for line in lines)
    if inside:
        yield "</details>"


def _holds(item: Rung, outcome: Outcome | None) -> bool:
    if outcome is None or outcome.packet < 0:
        return False
    placed = ((one.queue, one.number) for one in item.submission.packets)
    return (outcome.queue, outcome.packet) in placed


def _line(text: str, kind: str, name: str = "") -> str:
    given = (f' class="{kind}"' if kind else "") + (f' id="{name}"' if name else "")
    return f"<p{given}>{escape(text)}</p>"
