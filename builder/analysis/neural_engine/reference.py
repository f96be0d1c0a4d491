"""The reference page of the lint's rules, written from their docstrings and table.

`python -m builder.analysis.neural_engine.reference > docs/reference/lint.md` writes it; a test fails when it drifts.
"""

from __future__ import annotations

import inspect
import sys

from builder.analysis.headroom.table import RULES as NUMBERS
from builder.analysis.neural_engine.table import RULES

_HEAD = """# Rules of the lint

Written by `python -m builder.analysis.neural_engine.reference`; do not edit.

`python -m builder lint model.mlpackage` reads a file and says what probably keeps it off the Neural Engine, or slows it
there. Apple publishes no list of what the engine takes, and it differs by chip and system: each rule says how far it
can be trusted (**high**: Apple says so, or it was measured on several chips; **medium**: measured by others; **low**:
hearsay, or disputed) and what it rests on. All are warnings. On a Mac, Core ML's own compute plan comes first; the
tests of builder have not run that part, for want of a Mac.

Below these are the rules about [numbers](#numbers), which have their own kinds of confidence.

A recipe accepts what a rule finds, with a reason that the report shows:

```yaml
lint:
  ignore:
    gather: "one embedding at the beginning"
```
"""


_NUMBERS = """## Numbers

Of an ML program the values of every operator are bounded, from the inputs on: pictures have levels of 0 to 255, arrays
what `low` and `high` of the recipe say. Then the program is executed in float32, on samples and stress inputs, and each
rule says of every operator whether something was seen (**measured**), some input within the range reaches it (**high**:
the bounds are attained there), it is written so that it happens for some values (**medium**), the original does the
same (**low**), the bounds prove that it cannot happen, or nobody knows. Only the first four are findings. Neural
networks and Core AI assets are not analysed, of a pipeline its first program. See [Headroom](../guide/headroom.md).
"""


def render_reference() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD]
    for name, rule in RULES.items():
        lines += [f"## {name}", "", " ".join((inspect.getdoc(rule.find) or "").split()), ""]
        lines += [f"Confidence: {rule.confidence}. What to do: {rule.advice}.", ""]
        lines += [*(f"- {source}" for source in rule.sources), ""]
    lines.append(_NUMBERS)
    for name, number in NUMBERS.items():
        lines += [f"### {name}", "", " ".join((inspect.getdoc(number.find) or "").split()), ""]
        lines += [f"What to do: {number.advice}.", "", *(f"- {source}" for source in number.sources), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
