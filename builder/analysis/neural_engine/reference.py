"""The reference page of the lint's rules, written from their docstrings and table.

`python -m builder.analysis.neural_engine.reference > docs/reference/lint.md` writes it; a test fails when it drifts.
"""

from __future__ import annotations

import inspect
import sys

from builder.analysis.neural_engine.table import RULES

_HEAD = """# Rules of the lint

Written by `python -m builder.analysis.neural_engine.reference`; do not edit.

`python -m builder lint model.mlpackage` reads a file and says what probably keeps it off the Neural Engine, or slows it
there. Apple publishes no list of what the engine takes, and it differs by chip and system: each rule says how far it
can be trusted (**high**: Apple says so, or it was measured on several chips; **medium**: measured by others; **low**:
hearsay, or disputed) and what it rests on. All are warnings. On a Mac, Core ML's own compute plan comes first; the
tests of builder have not run that part, for want of a Mac.

A recipe accepts what a rule finds, with a reason that the report shows:

```yaml
lint:
  ignore:
    gather: "one embedding at the beginning"
```
"""


def render_reference() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD]
    for name, rule in RULES.items():
        lines += [f"## {name}", "", " ".join((inspect.getdoc(rule.find) or "").split()), ""]
        lines += [f"Confidence: {rule.confidence}. What to do: {rule.advice}.", ""]
        lines += [*(f"- {source}" for source in rule.sources), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
