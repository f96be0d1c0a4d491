"""Every group option that ships composes and validates, and those that DESIGN promises are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.config.folders import GROUPS, head_comment, open_library, shipped
from builder.errors import ConfigurationError
from builder.spec.target import TARGET_NAMES, Target
from tests.unit.config.conftest import LEAST, Compose, Write

PROMISED = {
    "precision": {"fp32", "fp16", "mixed"},
    "compression": {
        "none", "int8", "int4", "palettize_8", "palettize_6", "palettize_4", "palettize_2", "prune_50",
    },
    "checks": {"none", "default", "strict"},
    "tracking": {"none", "mlflow"},
    "substitutions": {"none", "relu6_to_relu"},
}  # fmt: skip

WITHOUT_INPUT = LEAST.partition("input:")[0]
WITHOUT_SOURCE = "input:" + LEAST.partition("input:")[2]
SOURCES = {
    "torchvision": "source:\n  name: mobilenet_v2\n",
    "checkpoint": "source:\n  file: net.pth\n  trust_pickle: true\n",
    "python": "source:\n  factory: nets:small\n",
    "torchscript": "source:\n  file: net.pt\n",
    "exported_program": "source:\n  file: net.pt2\n",
    "onnx": "source:\n  file: net.onnx\n",
    "coreml": "source:\n  file: net.mlmodel\n",
    "timm": "source:\n  name: resnet18\n",
    "huggingface": "source:\n  config_class: BertConfig\n  auto_class: AutoModel\n",
}

OPTIONS = [(group, option) for group in GROUPS for option in open_library().option_names(group)]


def recipe_for(group: str) -> str:
    return {"input": WITHOUT_INPUT, "source": ""}.get(group, LEAST)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_validates(group: str, option: str, composed: Compose, write: Write) -> None:
    # given a recipe that lacks what the option gives, for the newest system
    text = recipe_for(group)
    if group == "source":
        text = f"defaults:\n  - source: {option}\n{SOURCES[option]}{WITHOUT_SOURCE}"
        for suffix in ("pth", "pt", "pt2", "onnx", "mlmodel"):
            write(f"recipes/net.{suffix}", "")
    target = [] if group == "target" else ["target=ios26"]
    made = {13: "mlmodel", 14: "mlmodel", 27: "aimodel"}
    generation = Target(name=option).generation if group == "target" else 26

    # when the option is chosen
    request = composed(f"{group}={option}", *target, f"format={made.get(generation, 'mlpackage')}", text=text)

    # then it is in the spec
    chosen = getattr(request.spec, group)
    if group in ("precision", "tracking", "source"):
        assert chosen.kind == option
    elif group == "target":
        assert chosen.name == option
    elif option == "none":
        assert chosen == {}
    else:
        assert chosen


def test_there_is_one_target_option_for_each_target_name() -> None:
    assert set(open_library().option_names("target")) == set(TARGET_NAMES)


@pytest.mark.parametrize("group", PROMISED)
def test_promised_options_exist(group: str) -> None:
    assert PROMISED[group] <= set(open_library().option_names(group))


@pytest.mark.parametrize("file", sorted(shipped("conf").rglob("*.yaml")), ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_every_shipped_file_begins_with_what_it_is(file: Path) -> None:
    assert head_comment(file).endswith(".")


def test_joined_options_of_one_group_are_merged(composed: Compose) -> None:
    # when two compressions are chosen, on the command line and in a recipe
    line = composed("compression=[prune_50,palettize_4]", "target=ios18").spec.compression
    listed = composed(text="defaults:\n  - target: ios18\n  - compression: [prune_50, palettize_4]\n" + LEAST)

    # then both are there, in order
    assert list(line) == ["prune_50", "palettize_4"]
    assert listed.spec.compression == line


def test_strict_is_default_with_more(composed: Compose) -> None:
    default, strict = composed("checks=default").spec.checks, composed("checks=strict").spec.checks
    assert set(default) == set(strict)
    assert strict["capture"].samples > default["capture"].samples
    assert strict["parity"].search > (default["parity"].search or 10)


def test_an_option_of_the_user_is_found(composed: Compose, write: Write) -> None:
    write("conf/precision/mine.yaml", "# Mine.\nkind: mixed\nfp32_op_types: [exp]\n")
    assert composed("precision=mine").spec.precision.kind == "mixed"


def test_two_different_files_for_one_option_are_an_error(composed: Compose, write: Write) -> None:
    write("conf/precision/fp32.yaml", "kind: fp16\n")
    with pytest.raises(ConfigurationError, match=r"two files are the option precision/fp32"):
        composed("precision=fp32")
