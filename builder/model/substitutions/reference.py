"""The reference page of all substitutions, written from their docstrings.

`python -m builder.model.substitutions.reference > docs/reference/substitutions.md` writes it;
a test fails when it drifts.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator

from builder.model.substitutions.entry import name_of
from builder.model.substitutions.substitute import EXACT
from builder.model.substitutions.table import REWRITES
from builder.model.substitutions.user import replace, rewrite_model

_HEAD = f"""# Substitutions

Named rewrites of the module tree, applied in the order in which a recipe gives them:

```yaml
substitutions:
  dropout_removal:                # the name says the kind
  stem:
    kind: relu6_to_clamp          # under a name of its own
    modules: ["features.0.*"]
    effect: {{max: 0.001}}
```

or, for shipped rewrites with their defaults, `- substitutions: dropout_removal` (or `[dropout_removal, silu]`) in the
defaults list, and `substitutions=dropout_removal` (or `'substitutions=[dropout_removal,silu]'`) on the command line.

Every substitution takes

- `modules`: glob patterns of module paths, such as `features.*.conv.*`; every path unless given. `*` matches dots as
  well; the root's own path is empty. Each pattern has to match something that is replaced.
- `type`: only modules of exactly this type, as `package.module:Name`. The shipped rewrites apply to the types listed
  below and not to their subclasses, whose forward may do something else: name such a subclass here when it does not.
- `optional`: whether matching nothing is fine. Otherwise it is an error.
- `effect`: `{{min: …, max: …}}`, limits on the largest absolute change of any output that this rewrite alone causes.

Modules are found wherever they are: nested, at the root, and in several places at once, where a shared module is
replaced by one that is shared again. Parameters keep their values, dtype, device and whether they learn; modules keep
the training flag. A module whose forward hooks or parametrizations would be lost is refused by its path. Functions
(`torch.nn.functional.relu6`) are not modules and stay.

The model runs on the example inputs before and after each substitution, and the record says what was replaced and
what this one changed: the largest absolute difference and the signal-to-noise ratio. **Exact** rewrites compute the
same but for rounding: a change of more than {EXACT:g} of an output's largest value fails the build, unless the recipe
gives `effect`. **Approximate** ones are recorded as such.

Rewrites that fix a size (`adaptive_to_fixed_pooling`, `upsample_to_matmul`) take that of the example inputs, and are
not for inputs of flexible shape.
"""


def render_reference() -> str:
    """Return the page as Markdown."""
    return "\n".join([_HEAD, *_shipped(), *_own()])


def _shipped() -> Iterator[str]:
    for name, entry in REWRITES.items():
        yield f"## {name}\n"
        yield _described(entry.function)
        yield f"{'Exact' if entry.exact else 'Approximate'}. Applies to {', '.join(map(_code, entry.types))}.\n"


def _own() -> Iterator[str]:
    yield "## Your own: replace\n"
    yield _described(replace)
    yield "```yaml\nsubstitutions:\n  swish:\n    kind: replace\n    type: torch.nn:SiLU"
    yield "    replacement: torch.nn:Hardswish    # or my_package.layers:make_swish"
    yield "    exact: false                       # the default; true: held to the limit of exact rewrites\n```\n"
    yield "## Your own: rewrite\n"
    yield _described(rewrite_model)
    yield "```yaml\nsubstitutions:\n  fuse:\n    kind: rewrite\n    function: my_package.layers:fuse"
    yield "    exact: true\n```"
    yield "\nIt takes no `modules` and no `type`: the function sees the whole model.\n"


def _described(function: Callable[..., object]) -> str:
    return f"{inspect.getdoc(function)}\n"


def _code(kind: type | str) -> str:
    return f"`{name_of(kind)}`"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
