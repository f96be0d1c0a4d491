"""B0261 to B0269: recipes that do not fit the model, and other inputs of commands."""

from __future__ import annotations

from builder.diagnostics.code import NET, NET_RECIPE, RECIPE, Code, Example, net, recipe

_OTHER = """\
source: {kind: coreml, file: ../outputs/x/default/x.mlpackage}
input: {x: {kind: tensor, shape: [1, 4]}}
precision: {kind: fp32}
tracking: {kind: none}
"""

CODES = (
    Code(
        code="B0261",
        title="labels do not fit the model",
        text="A classifier has one label for each class, and none twice: the app is told the best class by its label.",
        example=net("classifier: {labels: [a, b, c]}"),
    ),
    Code(
        code="B0262",
        title="outputs do not fit the model",
        text="The recipe names every output that the model returns, in that order, with the type and the channels that "
        "it returns.",
        example=net("output: {a: {kind: tensor}, b: {kind: tensor}}"),
    ),
    Code(
        code="B0264",
        title="a pattern matches nothing",
        text="Each pattern of a recipe has to match something: operators of the program, layers or modules of the "
        "model. One that matches nothing is misspelt, or meant for another model. The screen lists names that are "
        "near.",
        example=net("substitutions: {smooth: {kind: relu6_to_relu}}"),
    ),
    Code(
        code="B0265",
        title="a finished Core ML model is another than the recipe says",
        text="What a source of kind `coreml` computes in, classifies and returns is decided by its file. Write the "
        "recipe as the file is; `python -m builder init FILE` does.",
        example=Example(
            files={
                "net.py": "import torch\n\n\ndef net():\n    return torch.nn.Linear(4, 2)\n",
                "recipes/x.yaml": NET_RECIPE,
                "recipes/y.yaml": _OTHER,
            },
            commands=("recipe=x", "recipe=y"),
        ),
    ),
    Code(
        code="B0266",
        title="not a model that `init` can look at",
        text="`init` takes a file of a model, `torchvision:NAME`, `timm:NAME`, the folder or name of a repository, or "
        "`package.module:function`.",
        example=Example(commands=("init torchvision:nothing",)),
    ),
    Code(
        code="B0267",
        title="builder.lock cannot be read",
        text="The file is damaged, incomplete, or of another schema. `python -m builder lock recipe=NAME` writes it "
        "again.",
        example=Example(files={"recipes/x.yaml": RECIPE, "builder.lock": "{"}, commands=("recipe=x --locked",)),
    ),
    Code(
        code="B0268",
        title="a release has no such setting",
        text="Settings of a release begin with `release.`; there are few of them.",
        example=recipe(commands=("release recipe=x release.colour=red",)),
    ),
    Code(
        code="B0269",
        title="a key for signatures cannot be read",
        text="Releases are signed with an elliptic-curve key in a PEM file without a password, and verified with its "
        "public key.",
        example=Example(
            files={
                "net.py": NET,
                "recipes/x.yaml": NET_RECIPE + "checks: {parity: {kind: parity, accept_synthetic: true}}\n",
                "key.pem": "not a key\n",
            },
            commands=("release recipe=x release.sign_key=key.pem",),
        ),
    ),
)
