"""B0240 to B0257: settings of a recipe that do not go together; found before anything is loaded."""

from __future__ import annotations

from builder.diagnostics.code import RECIPE, Code, Example, recipe

_IMAGE = RECIPE.replace("    scale: 1\n", "")
_CORE_ML = """\
source:
  kind: coreml
  file: ../net.mlmodel
"""
_DECODER = """\
source: {kind: huggingface, auto_class: AutoModelForCausalLM, config_class: LlamaConfig, cache_length: 64}
input:
  input_ids: {kind: tensor, shape: [1, 1], dtype: int32, high: 99}
  offset: {kind: tensor, shape: [1], dtype: int32, high: 64}
target: {name: ios18}
state: {keys: {buffer: keys}, values: {buffer: values}}
"""

CODES = (
    Code(
        code="B0240",
        title="the format does not exist for the target",
        text="Neural networks (`format: mlmodel`) end with iOS 14 and its equivalents, ML programs begin with iOS 15, "
        "Core AI begins with iOS 27, and a target must be known to the installed coremltools.",
        example=recipe(commands=("recipe=x format=mlmodel target=ios15",)),
    ),
    Code(
        code="B0241",
        title="the target is too old",
        text="The setting needs a later system than the recipe's `target`. The hint names the least one.",
        example=recipe(commands=("recipe=x target=ios15 compression=int8",)),
    ),
    Code(
        code="B0242",
        title="neural networks cannot do this",
        text="`format: mlmodel` is the older format of Core ML. States, several functions, mixed precision, quantized "
        "activations and some settings of compression are for ML programs (`format: mlpackage`).",
        example=recipe(commands=("recipe=x format=mlmodel target=ios14 precision=mixed",)),
    ),
    Code(
        code="B0243",
        title="Core AI cannot do this",
        text="`format: aimodel` has no stage of non-maximum suppression, no default values of inputs, and "
        "torch.export does not take the quantized tensors that quantization-aware training makes.",
        example=recipe(
            "format: aimodel",
            "target: {name: ios27}",
            "compression: {qat: {kind: quantization_aware_training, training: 'train:fit'}}",
        ),
    ),
    Code(
        code="B0244",
        title="settings of the source contradict each other",
        text="Each kind of source has settings that belong together, such as `revision` with `model`, and some that "
        "need published weights.",
        example=recipe(base=RECIPE.replace("name: mobilenet_v2", "name: mobilenet_v2\n  sha256: " + "a" * 64)),
    ),
    Code(
        code="B0245",
        title="a finished Core ML model stays what it is",
        text="A source of kind `coreml` is compressed, retargeted and checked, and not captured again: its inputs, "
        "normalisation, names and outputs are decided.",
        example=Example(
            files={
                "net.mlmodel": "",
                "recipes/x.yaml": _CORE_ML + "input: {x: {kind: tensor, shape: [1, 4]}}\n"
                "output: {y: {kind: tensor, source_name: z}}\n",
            }
        ),
    ),
    Code(
        code="B0246",
        title="an input is described wrongly",
        text="Pictures are scaled by one of `from_weights`, `mean` and `std`, or `scale` and `bias`, with one value "
        "for each channel; integers need `high`; values lie within what the type holds.",
        example=recipe("    mean: [0.5, 0.5, 0.5]", base=_IMAGE),
    ),
    Code(
        code="B0247",
        title="a shape that cannot be",
        text="A shape is flexible by ranges or by enumerated shapes, not by both; enumerated shapes have the input's "
        "rank and include its shape; dimensions of one name have one range; and no device holds more than 2**28 "
        "elements.",
        example=recipe(base=RECIPE.replace("[1, 3, 32, 32]", "[1, 3, 99999, 99999]")),
    ),
    Code(
        code="B0248",
        title="a name that is taken or reserved",
        text="Inputs, outputs and states have different names, which are not words of Core ML's own language; some "
        "keys of metadata belong to tools.",
        example=recipe("metadata: {user: {com.github.builder.mine: '1'}}"),
    ),
    Code(
        code="B0249",
        title="a state does not fit the model",
        text="A state names a buffer of the model, of floats, that begins with zeros. Each buffer that running the "
        "model changes is declared, and belongs to one state.",
        example=recipe("target: {name: ios18}", "state: {a: {buffer: keys}, b: {buffer: keys}}"),
    ),
    Code(
        code="B0250",
        title="a classifier's output is not one",
        text="A classifier's first output is a float array of shape (1, classes), which becomes a dictionary of "
        "probabilities: it has a name alone.",
        example=recipe("classifier: {labels: [a, b]}", "output: {scores: {kind: tensor, dtype: float32}}"),
    ),
    Code(
        code="B0251",
        title="a detector's settings do not fit",
        text="A detector takes one picture of a fixed size and has the outputs that Vision looks for. `detection.kind` "
        "says how its boxes are decoded, which must be how the model gives them.",
        example=recipe("classifier: {labels: [a]}", "detection: {kind: boxes, labels: [a]}"),
    ),
    Code(
        code="B0252",
        title="functions do not fit",
        text="Each function of an artifact has shapes of its own for inputs that the recipe has. Classifiers and "
        "detectors have one function.",
        example=recipe("target: {name: ios18}", "functions: {small: {shape: {picture: [1, 3, 16, 16]}}}"),
    ),
    Code(
        code="B0253",
        title="a step of compression is described wrongly",
        text="Some settings of a step need others, some exclude each other, and not every step can follow another one.",
        example=recipe("target: {name: ios16}", "compression: {small: {kind: palettize, nbits: null}}"),
    ),
    Code(
        code="B0254",
        title="substitutions need modules of PyTorch",
        text="A source that is a program already has no modules to replace, and substitutions that fix a size do not "
        "go with flexible shapes.",
        example=recipe(
            "substitutions: {pool: {kind: adaptive_to_fixed_pooling}}",
            base=RECIPE.replace("[1, 3, 32, 32]", "[1, 3, {min: 32, max: 64}, 32]"),
        ),
    ),
    Code(
        code="B0255",
        title="a check or its data does not fit the recipe",
        text="Measures of classes need a classifier, accuracy needs labels, a name of data is one of those under "
        "`data`, and a folder of pictures is for one input that is a picture.",
        example=recipe("checks: {right: {kind: accuracy, data: holdout}}"),
    ),
    Code(
        code="B0256",
        title="`auto` cannot decide this",
        text="`precision: auto` and `compression: auto` build, measure and take what passes the checks. So a check "
        "executes the artifact, and nothing else decides about the same weights.",
        example=recipe(commands=("recipe=x precision=auto checks=none",)),
    ),
    Code(
        code="B0257",
        title="an encoder, decoder or cache takes other inputs",
        text="With `part` or `cache_length` the inputs are those that the part takes: tokens, and for a cache the "
        "position of the first of them, which together fit into the cache.",
        example=recipe(base=_DECODER),
    ),
)
