"""Broken recipes and command lines: the files to write, the command line, and the exit code that is due."""

from __future__ import annotations

from dataclasses import dataclass, field

INPUT = """\
input:
  image:
    kind: image
    shape: [1, 3, 32, 32]
    scale: 1
"""

SOURCE = """\
source:
  kind: torchvision
  name: mobilenet_v2
"""

DECODER = """\
source: {kind: huggingface, auto_class: AutoModelForCausalLM, config_class: LlamaConfig, cache_length: 64}
input:
  input_ids: {kind: tensor, shape: [1, 1], dtype: int32, high: 99}
  position: {kind: tensor, shape: [1], dtype: int32, high: 64}
target: {name: ios18}
state: {keys: {buffer: keys}, values: {buffer: values}}
functions: {decode: {}, prefill: {shape: {input_ids: [1, 16]}}}
"""

GOOD = f"# A good recipe.\n{SOURCE}{INPUT}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One mistake (or several), with the files below the working directory."""

    arguments: tuple[str, ...]
    files: dict[str, str | bytes] = field(default_factory=dict)
    exit_code: int = 2


def recipe(text: str | bytes, *more: str) -> Case:
    """A broken `recipes/x.yaml`, built with `more` arguments."""
    return Case(arguments=("recipe=x", *more), files={"recipes/x.yaml": text})


def command(*arguments: str) -> Case:
    """A broken command line over a good `recipes/x.yaml`."""
    return Case(arguments=arguments, files={"recipes/x.yaml": GOOD})


def inherits(child: str, parent: str = GOOD) -> Case:
    """A recipe `x` that inherits `parent`."""
    return Case(arguments=("recipe=x",), files={"recipes/x.yaml": child, "recipes/parent.yaml": parent})


def search(text: str, *more: str) -> Case:
    """A broken `conf/search/mine.yaml` for a good `recipes/x.yaml`, or one that goes wrong with `more` arguments."""
    objectives = "objectives:\n  size: {measure: artifact.bytes, goal: minimize}\n"
    files = {"recipes/x.yaml": GOOD, "conf/search/mine.yaml": f"{objectives}{text}\n"}
    return Case(arguments=("search", "recipe=x", "search=mine", *more), files=files)


CASES: dict[str, Case] = {
    # YAML itself
    "yaml_unclosed_list": recipe("source:\n  kind: torchvision\n  name: [mobilenet_v2\ninput: {}\n"),
    "yaml_tab": recipe("source:\n\tkind: torchvision\n"),
    "yaml_bad_indent": recipe("source:\n  kind: torchvision\n name: mobilenet_v2\n"),
    "yaml_colon_in_text": recipe(GOOD + "metadata:\n  description: MobileNet: a small net\n"),
    "yaml_unclosed_quote": recipe(GOOD + 'metadata:\n  author: "me\n'),
    "yaml_duplicate_keys": recipe(
        "source:\n  kind: torchvision\n  name: mobilenet_v2\n  name: resnet18\n" + INPUT + "seed: 1\nseed: 2\n"
    ),
    "yaml_two_documents": recipe(GOOD + "---\nseed: 1\n"),
    "yaml_list": recipe("- source\n- input\n"),
    "yaml_scalar": recipe("just a text\n"),
    "yaml_empty": recipe("# Nothing yet.\n"),
    "yaml_not_utf8": recipe(b"# caf\xe9\nsource: {}\n"),
    "yaml_utf16": recipe(GOOD.encode("utf-16")),
    "yaml_control_character": recipe(GOOD + "metadata:\n  author: a\x00b\n"),
    "yaml_tag": recipe(GOOD + "metadata:\n  author: !!python/object:os.system ls\n"),
    "yaml_unknown_alias": recipe(GOOD + "metadata: *nothing\n"),
    "yaml_recursive_alias": recipe(GOOD + "metadata: &a\n  user: *a\n"),
    "yaml_number_as_key": recipe(GOOD + "metadata:\n  user:\n    1: one\n"),
    "yaml_merge_of_no_mapping": recipe(GOOD + "metadata:\n  <<: [author, me]\n"),
    "yaml_merge_twice": recipe(GOOD + "metadata: &m {author: me}\nchecks:\n  <<: *m\n  <<: *m\n"),
    "yaml_deep": recipe("a: " + "[" * 3000 + "]" * 3000),
    "yaml_aliases_multiply": recipe(
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True))
    ),
    # keys and values
    "unknown_key": recipe(GOOD + "presicion: fp16\n"),
    "unknown_key_deep": recipe(GOOD.replace("scale: 1", "scale: 1\n    colour_layout: RGB")),
    "unknown_key_in_check": recipe(GOOD + "checks:\n  parity:\n    sampels: 3\n    max_abs: {maximum: 1}\n"),
    "unknown_kind": recipe(GOOD.replace("kind: torchvision", "kind: torchvison")),
    "kind_missing": recipe("source:\n  name: mobilenet_v2\n" + INPUT),
    "unknown_target_inline": recipe(GOOD + "target:\n  name: ios19\n"),
    "precision_as_text": recipe(GOOD + "precision: fp16\n"),
    "target_as_text": recipe(GOOD + "target: ios16\n"),
    "source_missing": recipe("# A recipe without a source.\n" + INPUT),
    "input_missing": recipe(SOURCE),
    "field_missing": recipe("source:\n  kind: torchvision\n" + INPUT.replace("    shape: [1, 3, 32, 32]\n", "")),
    "number_for_text": recipe(GOOD + "metadata:\n  version: 1.0\n  author: true\n"),
    "labels_are_numbers": recipe(GOOD + "classifier:\n  labels: [0, 1]\n"),
    "not_a_number": recipe(GOOD.replace("scale: 1", "scale: .nan") + "checks:\n  parity:\n    snr_db: {min: .inf}\n"),
    "text_for_number": recipe(GOOD + 'seed: "3"\n'),
    "yes_for_true": recipe(GOOD.replace("scale: 1", "from_weights: yes")),
    "list_for_mapping": recipe(SOURCE + "input:\n  - image\n"),
    "mapping_for_number": recipe(GOOD + "seed: {value: 1}\n"),
    "float_for_integer": recipe(GOOD.replace("[1, 3, 32, 32]", "[1, 3, 32.5, 32]")),
    "wrong_dimension": recipe(GOOD.replace("[1, 3, 32, 32]", "[1, 3, 0, {min: 8, max: 4}]")),
    "wrong_scale": recipe(GOOD.replace("scale: 1", "scale: [1, 2, x]")),
    "scale_is_text": recipe(GOOD.replace("scale: 1", "scale: one")),
    "wrong_enum": recipe(GOOD + "format: mlpakage\ncapture:\n  method: tracing\n"),
    "wrong_nbits": recipe(GOOD + "compression:\n  small:\n    kind: palettize\n    nbits: 5\n"),
    "wrong_name_of_input": recipe(GOOD.replace("  image:\n    kind", "  1st-image:\n    kind")),
    "wrong_import_path": recipe("source:\n  kind: python\n  factory: models/net.py\n" + INPUT),
    "digest_of_digits": recipe(SOURCE + f"  weights: DEFAULT\n  sha256: {'1234567890' * 6}1234\n" + INPUT),
    "seed_negative": recipe(GOOD.replace("name: mobilenet_v2", "name: mobilenet_v2\n  seed: -2") + "seed: -1\n"),
    "labels_twice": recipe(GOOD + "classifier:\n  labels: [crane, cow, crane]\n"),
    "version_as_number": recipe(GOOD + "metadata:\n  version: 1.10\n"),
    "wrong_digest": recipe(SOURCE + "  weights: DEFAULT\n  sha256: abc\n" + INPUT),
    "target_refused": recipe(GOOD + "metadata:\n  _target_: os.system\n"),
    "target_in_arguments": recipe("source:\n  kind: python\n  factory: a:b\n  arguments: {_target_: x}\n" + INPUT),
    "schema_version": recipe(GOOD + "schema: 2\n"),
    "many_mistakes": recipe(
        "source:\n  kind: torchvision\n  nmae: mobilenet_v2\n  offline: maybe\ninput:\n  image:\n    kind: image\n"
        "    shape: [1, 3]\nformat: onnx\nclasifier: {}\nseed: a\n",
        "precision=fp17",
        "+x.y=1",
    ),
    # detectors
    "detection_wrong_values": recipe(
        GOOD + "detection:\n  kind: yolo\n  labels: []\n  decode: v4\n  iou_threshold: 45\n  threshold: 0.3\n"
    ),
    "detection_kind": recipe(GOOD + "detection:\n  kind: torch\n"),
    "detection_anchors": recipe(GOOD + "detection:\n  kind: yolo\n  labels: [cat]\n  decode: v5\n"),
    "detection_beside": recipe(
        SOURCE
        + "input:\n  confidence: {kind: tensor, shape: [1, 3, 32, {min: 32, max: 64}]}\n"
        + "  more: {kind: tensor, shape: [1]}\n"
        + "output:\n  boxes:\nclassifier:\n  labels: [cat]\nformat: mlmodel\ndetection:\n  kind: torchvision\n"
    ),
    "detection_raw_has_no_boxes_to_match": recipe(
        GOOD + "detection:\n  kind: torchvision\n  labels: [cat]\n  output: raw\n"
        "checks:\n  parity:\n    boxes_matched: {min: 0.9}\n"
    ),
    "detection_of_a_program": recipe(
        "source:\n  kind: onnx\n  file: net.onnx\n" + INPUT + "detection:\n  kind: torchvision\n  labels: [cat]\n"
    ),
    # defaults lists and inheritance
    "defaults_unknown_option": recipe("defaults:\n  - precision: fp17\n" + GOOD),
    "defaults_unknown_group": recipe("defaults:\n  - presicion: fp16\n" + GOOD),
    "defaults_override_unknown_option": recipe("defaults:\n  - override /target: ios8\n" + GOOD),
    "defaults_self_twice": recipe(
        f"defaults:\n  - _self_\n  - precision: fp16\n  - _self_\n{SOURCE}{INPUT}target: {{name: ios16}}\n"
    ),
    "defaults_no_list": recipe("defaults: fp16\n" + GOOD),
    "defaults_wrong_entry": recipe("defaults:\n  - 3\n  - {a: b, c: d}\n" + GOOD),
    "defaults_chosen_twice": recipe("defaults:\n  - target: ios16\n  - target: ios17\n" + GOOD),
    "defaults_package": recipe("defaults:\n  - /precision@other: fp16\n" + GOOD),
    "parent_unknown": recipe("defaults:\n  - mobilenet_v2_fp61\n" + GOOD),
    "parent_broken": inherits("defaults:\n  - parent\n", "source: [\n"),
    "parent_circle": inherits("defaults:\n  - parent\n", "defaults:\n  - x\n" + GOOD),
    "parent_wrong_value": inherits("defaults:\n  - parent\nformat: mlmodel\n", GOOD + "seed: high\n"),
    "header_package": recipe("# @package source\n" + GOOD),
    # interpolation
    "interpolation_unknown": recipe(GOOD + "seed: ${nope}\n"),
    "interpolation_syntax": recipe(GOOD + "metadata:\n  author: ${oops\n"),
    "interpolation_environment": recipe(GOOD + "metadata:\n  author: ${oc.env:BUILDER_NO_SUCH_VARIABLE}\n"),
    "mandatory_value": recipe(GOOD + "metadata:\n  author: ???\n"),
    # what does not go together
    "package_for_ios14": recipe("defaults:\n  - target: ios14\n" + GOOD),
    "model_for_ios15": recipe(GOOD + "format: mlmodel\n"),
    "auto_without_checks": recipe("defaults:\n  - precision: auto\n  - checks: none\n" + GOOD),
    "auto_for_mlmodel": recipe(GOOD, "precision=auto", "target=ios14", "format=mlmodel"),
    "auto_beside_a_step": recipe("defaults:\n  - target: ios16\n" + GOOD, "compression=[auto,int8]"),
    "auto_bytes_without_parity": recipe(
        GOOD + "classifier:\n  labels: [cat, dog]\n",
        "compression=auto",
        "compression.auto.max_bytes=1000",
        "target=ios16",
        "checks=none",
        "checks.right={kind: accuracy, data: {kind: digits}}",
    ),
    "int8_for_ios15": recipe("defaults:\n  - compression: int8\n" + GOOD),
    "normalised_twice": recipe(GOOD + "    mean: 0.5\n"),
    "labels_without_weights": recipe(GOOD + "classifier:\n  labels: from_weights\n"),
    "limit_crossed": recipe(GOOD + "checks:\n  parity:\n    kind: parity\n    snr_db: {min: 50, max: 30}\n"),
    "limit_empty": recipe(GOOD + "checks:\n  parity:\n    kind: parity\n    snr_db: {}\n"),
    "state_for_ios15": recipe(GOOD + "state:\n  cache: {buffer: keys}\n"),
    "functions_for_ios15": recipe(GOOD + "functions:\n  small: {shape: {image: [1, 3, 16, 16]}}\n"),
    "functions_unknown_key": recipe(GOOD + "target: {name: ios18}\nfunctions:\n  big: {shapes: {}}\n"),
    "functions_wrong": recipe(
        GOOD
        + "classifier: {labels: [a, b]}\ntarget: {name: ios18}\nfunctions:\n"
        + "  small: {shape: {imagee: [1, 3, 16, 16]}}\n"
        + "  flat: {shape: {image: [3, 16, 16]}}\n  grey: {shape: {image: [1, 1, 16, 16]}}\n"
    ),
    "cache_inputs": recipe(DECODER.replace("position", "offset")),
    "cache_too_short": recipe(DECODER),
    "huge_shape": recipe(GOOD.replace("[1, 3, 32, 32]", "[1, 3, 99999999999999999999, 32]")),
    "two_channels": recipe(GOOD.replace("[1, 3, 32, 32]", "[1, 2, -1, .nan]")),
    "accuracy_without_labels": recipe(
        GOOD + "checks:\n  accuracy:\n    kind: accuracy\n    data: {kind: digits}\n    accuracy: {min: 0.5}\n"
    ),
    "interpolation_circle": recipe(GOOD + "metadata:\n  author: ${metadata.license}\n  license: ${metadata.author}\n"),
    # files
    "file_missing": recipe("source:\n  kind: checkpoint\n  file: weights/net.pth\n  trust_pickle: true\n" + INPUT),
    "files_missing": recipe(SOURCE + "  file: net.safetensors\n" + INPUT + "classifier:\n  labels: labels.txt\n"),
    "file_empty_name": recipe(SOURCE + '  file: ""\n' + INPUT),
    "file_missing_command_line": command("recipe=x", "source.file=net.pth"),
    # data
    "data_unknown_name": recipe(
        GOOD
        + "data:\n  holdout: {kind: digits}\nchecks:\n  parity:\n    data: hold_out\n  accuracy:\n    data: train\n"
    ),
    "data_unknown_kind": recipe(
        GOOD + "data:\n  folder:\n    floder: x\nchecks:\n  parity:\n    data: {kind: folders, folder: x}\n"
    ),
    "data_wrong_type": recipe(GOOD + "checks:\n  parity:\n    data: 3\n"),
    "data_missing_files": recipe(
        GOOD + "data:\n  folder:\n    folder: pictures\n    labels: labels.csv\nchecks:\n  parity:\n    data: folder\n"
    ),
    "data_does_not_fit": Case(
        arguments=("recipe=x",),
        files={
            "recipes/x.yaml": GOOD
            + "  length: {kind: tensor, shape: [1]}\nclassifier:\n  labels: [a, b]\n"
            + "data:\n  holdout: {kind: folder, folder: pictures, interpolation: bicubic}\n"
            + "checks:\n  accuracy:\n    data: holdout\n  more:\n    kind: accuracy\n    data: {kind: photographs}\n",
            "pictures/a.png": "",
        },
    ),
    # command lines
    "nothing": Case(arguments=()),
    "no_recipe": command("precision=fp16"),
    "recipe_unknown": command("recipe=mobilenet_v3_fp16"),
    "recipe_empty": command("recipe="),
    "recipe_list": command("recipe=[x,mobilenet_v2_fp16]"),
    "recipe_several": command("recipe=x,mobilenet_v2_fp16"),
    "recipe_glob": command("recipe=glob(*)"),
    "recipe_twice": command("recipe=x", "recipe=mobilenet_v2_fp16"),
    "recipe_path_elsewhere": Case(arguments=("recipe=other/y.yaml",), files={"other/y.yaml": GOOD}),
    "recipe_path_missing": command("recipe=recipes/y.yaml"),
    "recipe_yml": Case(arguments=("recipe=y",), files={"recipes/y.yml": GOOD}),
    "recipe_folder": Case(arguments=("recipe=y",), files={"recipes/y.yaml/inner.yaml": GOOD}),
    "recipe_duplicate": Case(arguments=("recipe=mobilenet_v2_fp16",), files={"recipes/mobilenet_v2_fp16.yaml": GOOD}),
    "option_duplicate": Case(
        arguments=("recipe=x",), files={"recipes/x.yaml": GOOD, "conf/precision/fp16.yaml": "kind: fp32\n"}
    ),
    "option_broken": Case(
        arguments=("recipe=x", "precision=mine"),
        files={"recipes/x.yaml": GOOD, "conf/precision/mine.yaml": "kind: mixed\nfp32_op_type: [softmax]\n"},
    ),
    "option_unknown": command("recipe=x", "precision=fp17"),
    "option_empty": command("recipe=x", "target="),
    "option_list": command("recipe=x", "compression=[int8,int5]"),
    "group_unknown": command("recipe=x", "presicion=fp16"),
    "value_unknown_key": command("recipe=x", "source.nmae=resnet18"),
    "value_added_key": command("recipe=x", "+precision.unknown=1"),
    "value_forced_key": command("recipe=x", "++new.thing={a: 1}"),
    "value_wrong_type": command("recipe=x", "source.weights=1", "seed=high"),
    "value_in_list": command("recipe=x", "input.image.shape.7=1"),
    "recipe_without_equals": command("recipe", "x"),
    "recipe_with_dashes": command("--recipe=x"),
    "value_twice": command("recipe=x", "seed=1", "seed=2"),
    "delete_unknown": command("recipe=x", "~source.weight"),
    "delete_needed": command("recipe=x", "~source.name"),
    "delete_other_value": command("recipe=x", "~source.name=resnet18"),
    "delete_group": command("recipe=x", "~precision"),
    "grammar_double_equals": command("recipe=x", "precision==fp16"),
    "grammar_no_value": command("recipe=x", "precision", "fp16"),
    "grammar_spaces": command("recipe=x", "target = ios16"),
    "grammar_no_key": command("recipe=x", "=fp16"),
    "grammar_bracket": command("recipe=x", "input.image.shape=[1,3,32"),
    "grammar_package": command("recipe=x", "precision@other=fp16"),
    "hydra_setting": command("recipe=x", "hydra.run.dir=/tmp"),
    "sweep_all_wrong": command("-m", "recipe=x", "precision=fp17,fp18"),
    "sweep_no_match": command("-m", "recipe=glob(zzz*)"),
    "sweep_variants_unknown": command("-m", "recipe=x", "sweep=digit"),
    "sweep_variants_wrong": Case(
        arguments=("-m", "recipe=x", "sweep=mine"),
        files={"recipes/x.yaml": GOOD, "conf/sweep/mine.yaml": "a: [precision=fp32]\nb: precision=fp16\nc: [fp16]\n"},
    ),
    "sweep_interval": command("-m", "recipe=x", "seed=interval(0,1)"),
    "incompatible_command_line": command("recipe=x", "target=ios14"),
    "verb_unknown": command("lst"),
    "verb_is_recipe": command("mobilenet_v2_fp16"),
    "verb_near_recipe": command("mobilenet_v2_fp61"),
    "path_missing": command("models/net.onnx"),
    "path_of_recipe": command("recipes/x.yaml"),
    "flag_unknown": command("recipe=x", "--verbos"),
    "flag_unknown_for_verb": command("list", "--outputs=x"),
    "flag_without_value": command("recipe=x", "--outputs"),
    "extra_argument": command("list", "all"),
    "lint_unknown_rule": recipe(GOOD + "lint:\n  ignore:\n    gathr: one embedding\n"),
    "lint_no_reason": recipe(GOOD + 'lint:\n  ignore:\n    gather: ""\n'),
    "lint_no_model": command("lint", "nothing.mlpackage"),
    "predict_no_model": command("predict", "nothing.mlpackage", "image=cat.jpg"),
    "search_unknown": command("search", "recipe=x", "search=defualt"),
    "search_without_verb": command("recipe=x", "search=default"),
    "search_objective_unknown": search(
        "space:\n  seed: {kind: integer, min: 1, max: 4}", "search.objectives.size.measure=artifact.byte", "checks=none"
    ),
    "search_constraint_unknown": search(
        "space:\n  seed: {kind: integer, min: 1, max: 4}\nconstraints:\n  checks.parity.snr_db: {min: 40}",
        "checks=none",
    ),
    "search_space_empty": command("search", "recipe=x", "~search.space.precision", "~search.space.compression"),
    "search_setting_unknown": search("space: {b: {setting: compresion.bits, kind: integer, min: 2, max: 8}}"),
    "search_setting_without_group": search("space: {b: {setting: compression.p.nbits, kind: integer, min: 2, max: 4}}"),
    "search_choice_unknown": search("space:\n  precision: {kind: choice, choices: [fp16, fp17]}"),
    "search_choice_that_never_fits": search(
        "space:\n  method: {setting: compression, kind: choice, choices: [none, int4]}"
    ),
    "search_range_wrong": search(
        "space:\n  seed: {kind: integer, min: 8, max: 2}\n  x: {kind: float, min: 0, max: 1, log: true}"
    ),
    "search_range_outside": search("space:\n  seed: {kind: float, min: 0.5, max: 1.5}"),
    "search_kind_missing": search("space:\n  seed: {min: 1, max: 4}"),
    "search_condition_below": search(
        "space:\n  seed: {kind: integer, min: 1, max: 4, when: {precision: [fp16]}}\n"
        "  precision: {kind: choice, choices: [fp16, fp32]}"
    ),
    "search_grid_continuous": search("space:\n  x: {setting: seed, kind: float, min: 1, max: 4}\nsampler: grid"),
    "search_key_unknown": search("space:\n  seed: {kind: integer, min: 1, max: 4}\ntrails: 4\nwinner: smallest"),
    "search_given_and_varied": command("search", "recipe=x", "precision=fp16"),
    "search_several_values": command("search", "recipe=x", "search.trials=1,2"),
    "search_deletion": search("space:\n  seed: {kind: integer, min: 1, max: 4}", "~checks"),
    "search_jobs_of_sweep": command("search", "recipe=x", "sweep.jobs=2"),
    "search_output_elsewhere": command("search", "recipe=x", "--output", "elsewhere/x.yaml"),
    "search_output_there": Case(
        arguments=("search", "recipe=x"), files={"recipes/x.yaml": GOOD, "recipes/x_default.yaml": GOOD}
    ),
    "predict_nothing": command("predict"),
}
