"""The reference page of what verbs print with `--json`, written from the classes of the answers.

`python -m builder.cli.answers_page > docs/reference/json.md` writes it; a test fails when it drifts.
"""

from __future__ import annotations

import sys

from builder.cli.answers import ANSWERS
from builder.config.reference import key_table, nested_sections

_HEAD = """# JSON for scripts

`list`, `plan`, `show`, `doctor`, `lint` and `verify` take `--json`. Then exactly one JSON document stands on stdout,
whatever the exit code is: the answer of the verb, or what is wrong ([error](#error)); stderr is for people, as without
it. Only a process that is ended from outside (by the kernel, or by code of a model) prints nothing. `python -m builder
schema --of plan` writes the JSON schema of a verb's document. `ci` writes its document with `--report FILE`.

`schema` is 1. Keys may be added to a document under the same number; a key that changes its meaning or goes away
raises it. Numbers that JSON lacks are the texts `inf`, `-inf` and `nan`. A build needs no `--json`: its
`build.json` is the same contract ([design](../design.md#contracts)).

```bash
python -m builder plan recipe=digits_mobilenet --json
python -m builder schema --of plan --output plan.schema.json
```
"""


def render_page() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD]
    for verb, part in ANSWERS.items():
        text = " ".join((part.__doc__ or "").split())
        lines += [f"## {verb}", "", text, "", *key_table(part, defaults=False)]
        lines += [*nested_sections(part, seen={part}, defaults=False), ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_page())
