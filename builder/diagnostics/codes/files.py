"""B0201 to B0217: how recipes are written, found and put together."""

from __future__ import annotations

from builder.diagnostics.code import RECIPE, Code, Example, recipe

CODES = (
    Code(
        code="B0201",
        title="a file of YAML cannot be read",
        text="The file is a folder, is not UTF-8 text, is too large, or the system refuses to open it. Save it as "
        "UTF-8 text, at most 1 MiB.",
        example=Example(files={"recipes/x.yaml/": ""}),
    ),
    Code(
        code="B0202",
        title="YAML syntax",
        text="The file is not YAML: a bracket or a quote that is not closed, a tab as indentation, a text with `: ` in "
        "it that needs quotes. The place is where the parser gave up; the mistake may be a line above.",
        example=recipe("metadata: {author: me"),
    ),
    Code(
        code="B0203",
        title="YAML that is not a plain document",
        text="Recipes are mappings, lists and scalars. A key that is written twice, a key that is not text, tags, "
        "aliases that contain themselves or multiply, and `<<` of what is not a mapping are refused: whichever of "
        "them is meant, a reader of the recipe would have to guess.",
        example=recipe("seed: 1", "seed: 2"),
    ),
    Code(
        code="B0204",
        title="a recipe is a mapping of keys to values",
        text="The file is empty, or holds a list or one value, or begins with a `# @package` header, which recipes do "
        "not need.",
        example=Example(files={"recipes/x.yaml": "- mobilenet_v2\n"}),
    ),
    Code(
        code="B0205",
        title="a file that the recipe names does not exist",
        text="Files are looked for beside the recipe that names them, then in the working directory. The hint says "
        "where this one was looked for.",
        example=recipe(base=RECIPE.replace("kind: torchvision\n  name: mobilenet_v2", "kind: onnx\n  file: net.onnx")),
    ),
    Code(
        code="B0206",
        title="there is no such recipe",
        text="Recipes are named by their file without `.yaml` and are found in `./recipes`, in the folders of "
        "`BUILDER_RECIPES` and among those that come with builder. `python -m builder list` prints them.",
        example=recipe(commands=("recipe=y",)),
    ),
    Code(
        code="B0207",
        title="there is no such group or option",
        text="Options are chosen in the defaults list (`- precision: fp16`) or on the command line (`precision=fp16`); "
        "their files are in `conf/GROUP/`, yours and those that come with builder.",
        example=recipe(commands=("recipe=x precision=fp17",)),
    ),
    Code(
        code="B0208",
        title="the defaults list is wrong",
        text="An entry of `defaults` is `group: option`, or the name of a recipe to inherit. Each group is chosen "
        "once, `_self_` stands there once, and no recipe inherits itself.",
        example=recipe(base="defaults: fp16\n" + RECIPE),
    ),
    Code(
        code="B0209",
        title="a deletion that deletes nothing, or has no form",
        text="`~key` takes a key out of what the recipe says; with `~key=value` only if it has that value. A recipe "
        "that is written by a command and inherits another one cannot delete: write a recipe without the key "
        "instead.",
        example=recipe(commands=("recipe=x ~source.weight",)),
    ),
    Code(
        code="B0210",
        title="two files have one name, or a folder of recipes is missing",
        text="A recipe or an option has one file. Two with one name would make the result depend on the order of "
        "folders. Rename yours; `BUILDER_RECIPES` names folders that exist.",
        example=Example(files={"recipes/x.yaml": RECIPE, "conf/precision/fp16.yaml": "kind: fp16\n"}),
    ),
    Code(
        code="B0211",
        title="an unknown key",
        text="Nothing that a recipe says is ignored, so a key that builder does not know is an error. The screen lists "
        "the keys that are possible there. `_target_` is refused: code of yours enters by `factory`.",
        example=recipe("presicion: fp16"),
    ),
    Code(
        code="B0212",
        title="a key is missing",
        text="The section needs this key, and there is no default for it.",
        example=recipe(base=RECIPE.replace("  name: mobilenet_v2\n", "")),
    ),
    Code(
        code="B0213",
        title="a value of another type",
        text="A number where text is meant, text where a number is meant, a list for a mapping. YAML reads `yes` as "
        "text and `1.10` as a number: quotes make a number text.",
        example=recipe("seed: high"),
    ),
    Code(
        code="B0214",
        title="a value outside of what is possible",
        text="The type is right, and the value is too small, too large, empty, or does not have the form that it must "
        "have.",
        example=recipe("seed: -1"),
    ),
    Code(
        code="B0215",
        title="a value that is not one of those allowed",
        text="The setting takes one of a few names, and this is another. The screen lists them.",
        example=recipe("format: onnx"),
    ),
    Code(
        code="B0216",
        title="an interpolation cannot be resolved",
        text="`${key}` stands for another value of the recipe and `${oc.env:NAME}` for an environment variable; `???` "
        "must be given by whoever inherits the recipe. What it refers to must exist, and not refer back.",
        example=recipe("metadata: {author: '${nobody}'}"),
    ),
    Code(
        code="B0217",
        title="a recipe of another schema",
        text="`schema` is the version of the language of recipes. This builder reads one; another builder wrote that "
        "recipe, or will read it.",
        example=recipe("schema: 2"),
    ),
)
