"""B0401 to B0503: capture, conversion, compression and checks."""

from __future__ import annotations

from builder.diagnostics.code import NET, NET_RECIPE, Code, Example, net


def _module(forward: str, *, more: str = "") -> str:
    body = "".join(f"        {line}\n" for line in forward.splitlines())
    return f"import torch\n\n\nclass Net(torch.nn.Module):\n{more}    def forward(self, x):\n{body}\n\nnet = Net\n"


_WRONG = """\
import hashlib
import json
import pathlib

import numpy

folder = pathlib.Path("pack")
with numpy.load(folder / "golden/outputs.npz") as golden:
    numpy.savez(folder / "device-cpu.npz", **{name: golden[name] + 1 for name in golden.files})
pack = (folder / "pack.json").read_bytes()
unit = {"latency_ms": 1.0, "latency_p95_ms": 1.0, "rounds": 1, "load_cold_ms": 1.0, "load_warm_ms": 1.0}
unit |= {"peak_bytes": 1, "placement": None, "placement_reason": "", "outputs": "device-cpu.npz"}
unit["sha256"] = hashlib.sha256((folder / "device-cpu.npz").read_bytes()).hexdigest()
document = {"schema": 1, "pack": hashlib.sha256(pack).hexdigest(), "artifact": json.loads(pack)["artifact"]}
document |= {"stand_in": True, "device": {"model": "stand-in", "chip": "", "system": ""}, "tools": {}}
document |= {"started": "2026-01-01T00:00:00Z", "units": {"cpu": unit}}
(folder / "device.json").write_text(json.dumps(document))
"""

CODES = (
    Code(
        code="B0401",
        title="the model does not convert",
        text="An operator has no lowering, the conversion refuses the program, or what was written cannot be opened. "
        "The screen names operators, modules and lines; `python -m builder doctor recipe=NAME` says all of it, "
        "with remedies.",
        example=net(source=_module("return torch.linalg.svdvals(x)")),
    ),
    Code(
        code="B0402",
        title="the model cannot be captured",
        text="Neither tracing nor torch.export gives a program: the model's Python depends on values that are not "
        "known before it runs. Write it without that, or take the other `capture.method`.",
        example=net(
            "capture: {method: export}",
            source=_module("return x * 2 if x.sum() > 0 else x"),
        ),
    ),
    Code(
        code="B0403",
        title="the capture recorded a value or a size as a constant",
        text="Python computed a number from the input, or took a branch on a size, and that became a constant of the "
        "program (a TracerWarning): it computes something else for other inputs. Compute it with tensors, or give "
        "the input the one size. The message says which.",
        example=net(
            "capture: {method: export}",
            base=NET_RECIPE.replace("[1, 4]", "[1, {min: 2, max: 8, default: 4}]"),
            source=_module("return x * 2 if x.shape[1] == 4 else x"),
        ),
    ),
    Code(
        code="B0404",
        title="the model does not run on the recipe's inputs",
        text="The shapes or values that the recipe gives are not what the model takes; the message is the model's own.",
        example=net(base=NET_RECIPE.replace("[1, 4]", "[1, 5]")),
    ),
    Code(
        code="B0405",
        title="the model returns what an artifact cannot",
        text="Artifacts return tensors of floats and integers, each once. Wrap the model in a factory whose forward "
        "returns tensors.",
        example=net(source=_module("return 'text'")),
    ),
    Code(
        code="B0406",
        title="an in-place write would be lost",
        text="A write to a part of a tensor, in a branch or a loop, is not in the program. Write to the tensor itself, "
        "or build a new one.",
        example=net(
            "capture: {method: script}",
            source=_module("y = x * 1\nif bool(x.sum() > 0):\n    y[0] *= 0.5\nreturn y"),
        ),
    ),
    Code(
        code="B0407",
        title="a substitution cannot be applied",
        text="The replacement is not a module, or what it replaces has hooks, parametrizations or sizes that the "
        "replacement would lose.",
        example=net(
            "substitutions: {a: {kind: replace, replacement: 'net:other', modules: ['1']}}",
            source=NET + "\n\ndef other(old):\n    return 3\n",
        ),
    ),
    Code(
        code="B0408",
        title="a substitution changes the outputs",
        text="Exact substitutions change nothing but rounding, approximate ones no more than their `effect` allows. "
        "The message says by how much this one does.",
        example=net(
            "substitutions: {a: {kind: replace, replacement: 'net:other', modules: ['1'], effect: {max: 0.0001}}}",
            source=NET + "\n\ndef other(old):\n    return torch.nn.Sigmoid()\n",
        ),
    ),
    Code(
        code="B0409",
        title="a step of compression changed nothing",
        text="No weight is of the types and names that the step chooses, or all are smaller than its "
        "`weight_threshold`.",
        example=net("target: {name: ios16}", "compression: {small: {kind: palettize}}"),
    ),
    Code(
        code="B0410",
        title="a step of compression failed",
        text="coremltools refused the weights, the data gave no scale, or a weight is compressed already and the "
        "target cannot compress it further.",
        example=Example(
            files={
                "net.py": NET,
                "mine.py": "import numpy\n\n\ndef samples():\n    return [{'x': numpy.full((1, 4), 3e38, 'f')}]\n",
                "recipes/x.yaml": NET_RECIPE + "target: {name: ios17}\n"
                "compression: {a: {kind: quantize_activations, data: {kind: python, factory: 'mine:samples'}}}\n",
            }
        ),
    ),
    Code(
        code="B0411",
        title="a finished Core ML model needs a later target",
        text="Its operators may not exist in the system that the recipe names.",
        example=Example(
            files={
                "net.py": NET,
                "recipes/x.yaml": NET_RECIPE + "target: {name: ios17}\n",
                "recipes/y.yaml": "source: {kind: coreml, file: ../outputs/x/default/x.mlpackage}\n"
                "input: {x: {kind: tensor, shape: [1, 4]}}\ntarget: {name: ios15}\ntracking: {kind: none}\n",
            },
            commands=("recipe=x", "recipe=y"),
        ),
    ),
    Code(
        code="B0414",
        title="no compression makes the artifact small enough",
        text="`compression: auto` tried every method, and the smallest artifact is larger than `max_bytes`.",
        example=Example(
            files={
                "net.py": NET,
                "recipes/x.yaml": NET_RECIPE
                + "target: {name: ios16}\ncompression: {auto: {kind: auto, max_bytes: 10}}\n",
            },
            slow=True,
        ),
    ),
    Code(
        code="B0415",
        title="a prediction failed",
        text="The artifact was loaded and executed, and an operator cannot compute with these values.",
        example=Example(
            files={
                "net.py": _module("return torch.ones(3)[x.long()]"),
                "recipes/x.yaml": NET_RECIPE.replace("[1, 4]", "[1, 4]\n    dtype: int32\n    high: 3"),
            },
            commands=("recipe=x", "predict outputs/x/default/x.mlpackage x=9"),
        ),
    ),
    Code(
        code="B0416",
        title="your code raised an error in a substitution or step",
        text="The function that the recipe names was called and failed. The message names the file and the line.",
        example=net(
            "substitutions: {a: {kind: replace, replacement: 'net:other', modules: ['1']}}",
            source=NET + "\n\ndef other(old):\n    raise ValueError('not this one')\n",
        ),
    ),
    Code(
        code="B0501",
        title="a check missed its limit",
        text="The artifact was built and executed, and a measured value is beyond its limit. It is in "
        "`outputs/broken/`, with a report that shows values and limits; `python -m builder debug recipe=NAME` "
        "names the operators that add the error. `export` writes nothing where the new file computes something else.",
        example=net("checks: {structure: {kind: structure, bytes: {max: 1}}}"),
    ),
    Code(
        code="B0502",
        title="a device computes something else",
        text="Core ML on a device was given the golden inputs, and its outputs are beyond the limits of the recipe's "
        "parity check, or it could not predict on any compute unit. The numbers are not attached to the build. Units "
        "that compute in half precision may overflow where float32 does not: `python -m builder lint` shows headroom.",
        example=Example(
            files={"net.py": NET, "recipes/x.yaml": NET_RECIPE, "make.py": _WRONG},
            commands=(
                "recipe=x target=ios16",
                "device pack recipe=x target=ios16 -o pack",
                "python make.py",
                "device take pack/device.json",
            ),
            slow=True,
        ),
    ),
    Code(
        code="B0503",
        title="untrained weights are not published",
        text="The pretrained weights could not be had, so the artifact was built from seeded ones (`offline: seeded`). "
        "`publish` gives such an artifact to nobody. Build it where the weights can be had.",
        example=None,
    ),
)
