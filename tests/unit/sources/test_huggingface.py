"""Models of transformers: saved, from a configuration, and what does not fit them."""

from __future__ import annotations

import json
import re
import warnings
from importlib.util import find_spec

import pytest
import torch

from builder.data import make_examples
from builder.errors import ConversionError, SourceError
from builder.model.sources import load_source
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.stages.prepare import prepare

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="an optional package")

SMALL = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
IDS = {"kind": "tensor", "shape": [1, 8], "dtype": "int32", "high": 64}
MASK = {"kind": "tensor", "shape": [1, 8], "dtype": "int32", "low": 0, "high": 2}
UNTRAINED = {
    "kind": "huggingface",
    "config_class": "BertConfig",
    "auto_class": "AutoModelForSequenceClassification",
    "arguments": SMALL,
}


def spec_of(source, inputs=None, **parts):
    return BuildSpec.model_validate(
        {
            "source": source,
            "input": inputs or {"attention_mask": MASK, "input_ids": IDS},
            "precision": {"kind": "fp32"},
            "target": {"name": "ios15"},
            "tracking": {"kind": "none"},
        }
        | parts
    )


def load(source, inputs=None, **parts):
    spec = spec_of(source, inputs, **parts)
    return load_source(spec, make_examples(spec), Silent())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder that `save_pretrained` wrote."""
    folder = tmp_path_factory.mktemp("saved") / "bert"
    loaded = load(UNTRAINED | {"arguments": SMALL | {"id2label": {0: "no", 1: "yes", 2: "who knows"}}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded.module.model.save_pretrained(folder)
    return folder


def test_inputs_are_passed_by_name_whatever_their_order():
    # given
    spec = spec_of(UNTRAINED)
    examples = make_examples(spec)
    loaded = load_source(spec, examples, Silent())
    mask, ids = examples.samples[0].tensors.values()
    # when
    prepared = prepare(loaded, examples, spec)
    # then
    with torch.no_grad():
        expected = loaded.module.model(input_ids=ids.long(), attention_mask=mask.long()).logits
        assert torch.equal(prepared.module(mask, ids)[0], expected)


def test_the_recipe_chooses_outputs_by_name():
    # given
    source = UNTRAINED | {"auto_class": "AutoModel"}
    spec = spec_of(source, output={"pooler_output": None})
    examples = make_examples(spec)
    loaded = load_source(spec, examples, Silent())
    inputs = examples.samples[0].tensors.values()
    # when
    prepared = prepare(loaded, examples, spec)
    # then
    with torch.no_grad():
        returned = loaded.module(*inputs)
        assert list(returned) == ["last_hidden_state", "pooler_output"]
        (only,) = prepared.module(*inputs)
        assert torch.equal(only, returned["pooler_output"])
    assert prepared.output_names == ("pooler_output",)


def test_a_saved_folder_has_its_weights_and_labels(saved):
    # when
    first = load({"kind": "huggingface", "folder": str(saved), "auto_class": "AutoModelForSequenceClassification"})
    # then
    again = load({"kind": "huggingface", "model": str(saved), "auto_class": "AutoModelForSequenceClassification"})
    assert first.digest == again.digest
    assert first.labels == ("no", "yes", "who knows")
    assert not first.seeded


def test_a_classifier_takes_the_logits_whatever_the_recipe_calls_the_probabilities(saved):
    source = {"kind": "huggingface", "folder": str(saved), "auto_class": "AutoModelForSequenceClassification"}
    parts = {"output": {"probabilities": None}, "classifier": {"labels": "from_weights"}}
    spec = spec_of(source, **parts)
    examples = make_examples(spec)
    prepared = prepare(load_source(spec, examples, Silent()), examples, spec)
    assert prepared.output_names == ("probabilities",)
    assert prepared.labels == ("no", "yes", "who knows")


def test_pictures_take_mean_and_std_of_the_processor_beside_the_model(tmp_path):
    # given
    vit = {"kind": "huggingface", "config_class": "ViTConfig", "auto_class": "AutoModelForImageClassification"}
    vit["arguments"] = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32,
    }  # fmt: skip
    image = {"pixel_values": {"kind": "image", "shape": [1, 3, 32, 32], "mean": 0.5, "std": 0.5}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(vit, image).module.model.save_pretrained(tmp_path / "vit")
    processor = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "do_normalize": True}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))
    # when
    image["pixel_values"] = {"kind": "image", "shape": [1, 3, 32, 32], "from_weights": True}
    source = {"kind": "huggingface", "folder": str(tmp_path / "vit"), "auto_class": vit["auto_class"]}
    loaded = load(source, image)
    # then
    assert loaded.preprocessing is not None
    assert loaded.preprocessing.mean == (0.1, 0.2, 0.3)


def test_offline_is_an_error_unless_a_configuration_will_do():
    source = {"kind": "huggingface", "model": "nobody/nothing-at-all", "timeout": 1.0}
    with pytest.raises(SourceError) as raised:
        load(source)
    assert raised.value.key == "source.model"
    assert "source.folder" in (raised.value.hint or "")
    assert load(UNTRAINED | source | {"offline": "seeded"}).seeded


@pytest.mark.parametrize(
    ("change", "inputs", "parts", "said", "key"),
    [
        ({"config_class": "BertConfg"}, None, {}, "transformers has no class BertConfg", "source.config_class"),
        ({"auto_class": "AutoModelForX"}, None, {}, "transformers has no class AutoModelForX", "source.auto_class"),
        ({"auto_class": "AutoModelForVision2Seq"}, None, {}, "AutoModelForVision2Seq", "source.auto_class"),
        ({"arguments": SMALL | {"hidden_size": 15}}, None, {}, "cannot be made", "source.auto_class"),
        ({}, {"inputs": IDS}, {}, "takes no input inputs; it takes input_ids", "input.inputs"),
        ({"model": "not a name", "config_class": None}, None, {}, "neither a folder nor the name", "source.model"),
    ],
)
def test_what_does_not_fit_is_named(change, inputs, parts, said, key):
    with pytest.raises(SourceError, match=re.escape(said)) as raised:
        load(UNTRAINED | change, inputs, **parts)
    assert raised.value.key == key


def test_ids_beyond_the_vocabulary():
    spec = spec_of(UNTRAINED, {"input_ids": IDS | {"high": 999}})
    examples = make_examples(spec)
    loaded = load_source(spec, examples, Silent())
    with pytest.raises(ConversionError, match=r"does not run on inputs of shape \(1, 8\): IndexError") as raised:
        prepare(loaded, examples, spec)
    assert raised.value.key == "input"


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(SourceError, match=r"has no config\.json") as raised:
        load({"kind": "huggingface", "folder": str(tmp_path)})
    assert raised.value.key == "source.folder"


def test_a_class_whose_weights_the_folder_lacks(saved):
    with pytest.raises(SourceError, match="no weights for") as raised:
        load({"kind": "huggingface", "folder": str(saved), "auto_class": "AutoModelForQuestionAnswering"})
    assert "architectures" in (raised.value.hint or "")


def test_experts_are_gathered_by_token_and_no_number_stays_in_bfloat16():
    # given a mixture of experts, which transformers computes by counting the tokens of each
    arguments = {**SMALL, "num_key_value_heads": 1, "num_local_experts": 3}
    source = {"kind": "huggingface", "config_class": "MixtralConfig", "arguments": arguments}
    spec = spec_of(source)
    loaded = load_source(spec, examples := make_examples(spec), Silent())
    # when it is captured
    prepared = prepare(loaded, examples, spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(prepared.module, tuple(examples.samples[0].tensors.values()), check_trace=False)
    # then no size depends on values
    kinds = {node.kind() for node in program.inlined_graph.nodes()}
    assert "aten::bmm" in kinds
    assert not kinds & {"aten::_grouped_mm", "aten::histc", "aten::bincount", "aten::nonzero"}

    # given a model with a buffer in bfloat16, whatever dtype is asked for
    arguments = {**SMALL, "num_key_value_heads": 1, "head_dim": 16, "lru_width": 32, "num_hidden_layers": 3}
    loaded = load({"kind": "huggingface", "config_class": "RecurrentGemmaConfig", "arguments": arguments})
    # then
    assert {x.dtype for x in loaded.module.state_dict(keep_vars=True).values()} == {torch.float32}
    assert all(b.dtype != torch.bfloat16 for b in loaded.module.buffers())
