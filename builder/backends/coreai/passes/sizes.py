"""Arithmetic of sizes as Python has it, where coreai-torch's differs."""

from __future__ import annotations

import operator

from builder.backends.coreai.passes.edit import Edit


def exact_sizes(edit: Edit) -> None:
    """Let the remainder of a negative size be that of Python, in the divisor's sign: coreai-torch's has the size's.

    Given:   %r = mod(-L, 4)
    Result:  %q = floordiv(-L, 4);  %m = mul(%q, 4);  %r = sub(-L, %m)
    """
    for node in edit.calls(operator.mod):
        a, b = node.args
        whole = edit.before(node, operator.floordiv, a, b)
        found = edit.before(node, operator.sub, a, edit.before(node, operator.mul, whole, b))
        node.replace_all_uses_with(found)
    edit.finish()
