"""B0221 to B0238: the command line, sweeps and searches."""

from __future__ import annotations

from builder.diagnostics.code import NET, NET_RECIPE, RECIPE, Code, Example, recipe

_SEARCH = """\
objectives:
  size: {measure: artifact.bytes, goal: minimize}
space:
  a: {kind: choice, setting: precision, choices: [fp16, fp32]}
"""


def _search(text: str) -> Example:
    return Example(
        files={"recipes/x.yaml": RECIPE, "conf/search/mine.yaml": text}, commands=("search recipe=x search=mine",)
    )


CODES = (
    Code(
        code="B0221",
        title="an argument is not KEY=VALUE",
        text="Settings follow the grammar of Hydra: `key=value`, `+key=value`, `~key`, lists in `[…]`, mappings in "
        "`{…}`. Values with spaces or special characters need quotes inside the shell's quotes. Hydra's own "
        "settings and packages (`@`) do not apply here.",
        example=recipe(commands=("recipe=x seed==1",)),
    ),
    Code(
        code="B0222",
        title="a setting is given twice",
        text="One of the two would win, and which one is easily overlooked.",
        example=recipe(commands=("recipe=x seed=1 seed=2",)),
    ),
    Code(
        code="B0223",
        title="several values where one is built",
        text="`a,b`, `choice(…)`, `range(…)` and `glob(…)` make a sweep, which `-m` asks for. An interval has no end "
        "of values, a glob must match something, and a sweep has a largest number of jobs.",
        example=recipe(commands=("recipe=x seed=1,2",)),
    ),
    Code(
        code="B0224",
        title="an unknown command",
        text="The first word is a command, and recipes are built by `recipe=NAME`. `python -m builder --help` lists "
        "both.",
        example=recipe(commands=("bild recipe=x",)),
    ),
    Code(
        code="B0225",
        title="an option or argument that the command does not have",
        text="`python -m builder COMMAND --help` lists what the command takes.",
        example=recipe(commands=("recipe=x --verbos",)),
    ),
    Code(
        code="B0226",
        title="a path that leads to nothing that the command can use",
        text="There is no such file or folder, or it is neither an artifact nor the folder of a build or release.",
        example=Example(commands=("predict nothing.mlpackage x=1",)),
    ),
    Code(
        code="B0227",
        title="a place where nothing can be written",
        text="What is there already was not made by this command, and is not replaced; or the name cannot be that of a "
        "recipe or a folder. Give another `--output` or `--outputs`.",
        example=recipe(commands=("recipe=x --outputs recipes/x.yaml",)),
    ),
    Code(
        code="B0228",
        title="a value of the command line cannot be read",
        text="An amount without a unit, a code that does not exist, an input that the model does not have or that is "
        "missing, a file that is neither a picture nor an array.",
        example=Example(commands=("gc --larger-than much",)),
    ),
    Code(
        code="B0229",
        title="the command has nothing to do for this recipe",
        text="For example `choose` for a recipe without `auto`, `debug` for a neural network, or two options that "
        "exclude each other.",
        example=recipe(commands=("choose recipe=x",)),
    ),
    Code(
        code="B0231",
        title="a setting of a sweep is wrong",
        text="`sweep.NAME=VALUE` says how jobs of a sweep run, so it goes with `-m`, and which names there are depends "
        "on `sweep.launcher`. The same holds for settings of a search without `search`.",
        example=recipe(commands=("recipe=x sweep.jobs=2",)),
    ),
    Code(
        code="B0232",
        title="variants of a sweep are wrong",
        text="`sweep=NAME` names a file `conf/sweep/NAME.yaml`: a mapping of names to lists of overrides.",
        example=recipe(commands=("-m recipe=x sweep=nothing",)),
    ),
    Code(
        code="B0233",
        title="a search is not described as it must be",
        text="`search=NAME` names a file `conf/search/NAME.yaml`, and `search.KEY=VALUE` changes one value of it. A "
        "study goes on with the settings that it was begun with; others need another folder.",
        example=recipe(commands=("search recipe=x search=defualt",)),
    ),
    Code(
        code="B0234",
        title="the space of a search is wrong",
        text="Each entry varies one setting, once, that is not given otherwise; a condition is about an entry above it "
        "and can come true; a grid has a step in each range.",
        example=_search(_SEARCH + "  b: {kind: choice, setting: precision, choices: [fp16]}\n"),
    ),
    Code(
        code="B0235",
        title="nothing measures what the search is about",
        text="Objectives and constraints name measures: those of the artifact, and those of the checks that the recipe "
        "has. The screen lists them.",
        example=_search(_SEARCH.replace("artifact.bytes", "artifact.weight")),
    ),
    Code(
        code="B0238",
        title="the address of the remote store is wrong",
        text="`BUILDER_REMOTE` is `s3://bucket/prefix`, `gs://bucket/prefix`, `https://host/path` (which is only "
        "read), or a folder. It has no user, password or query: those come from the environment of the protocol's own "
        "tools. `BUILDER_REMOTE_ACCESS` is `read` or `write`.",
        example=Example(
            files={"recipes/x.yaml": NET_RECIPE, "net.py": NET}, environment={"BUILDER_REMOTE": "ftp://host/store"}
        ),
    ),
)
