"""timm's models by name, without network, and its data configuration."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest
import torch

from builder.data import make_examples
from builder.errors import SourceError, UnfitEnvironmentError
from builder.model.sources import load_source
from builder.model.sources.optional import optional_packages
from builder.progress import Silent
from builder.spec import BuildSpec

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="an optional package")

IMAGE = {"kind": "image", "shape": [1, 3, 64, 64], "from_weights": True}


def load(**source):
    spec = BuildSpec.model_validate(
        {
            "source": {"kind": "timm", "name": "test_resnet", "timeout": 2.0} | source,
            "input": {"image": IMAGE},
            "precision": {"kind": "fp32"},
            "target": {"name": "ios15"},
            "tracking": {"kind": "none"},
        }
    )
    return load_source(spec, make_examples(spec), Silent())


def test_untrained_weights_are_seeded_and_the_data_configuration_is_the_models_own():
    # when
    first, again, other = load(seed=1), load(seed=1), load(seed=2)
    # then
    assert first.digest == again.digest != other.digest
    assert not first.seeded  # nobody asked for others
    assert first.preprocessing is not None
    assert (first.preprocessing.mean, first.preprocessing.crop_size) == ((0.5, 0.5, 0.5), 160)
    assert first.labels is not None
    assert first.labels[0] == "tench, Tinca tinca"


def test_arguments_reach_the_model_and_change_its_labels():
    loaded = load(arguments={"num_classes": 7})
    assert loaded.labels is None
    with torch.no_grad():
        assert loaded.module(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_a_local_file_needs_no_network(tmp_path):
    # given
    trained = load(seed=5, arguments={"num_classes": 7})
    torch.save(trained.module.state_dict(), tmp_path / "w.pth")
    # when
    loaded = load(file=str(tmp_path / "w.pth"), arguments={"num_classes": 7})
    # then
    assert loaded.digest == trained.digest
    assert re.fullmatch("[0-9a-f]{64}", loaded.origin["file_sha256"])


def test_a_training_state_is_read_as_it_is(tmp_path):
    # given weights wrapped by DistributedDataParallel, in an entry of a training state
    trained = load(seed=5, arguments={"num_classes": 7})
    wrapped = {f"module.{name}": value for name, value in trained.module.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "w.pth")
    file = {"file": str(tmp_path / "w.pth"), "arguments": {"num_classes": 7}}
    # when each remedy is taken
    with pytest.raises(SourceError) as nested:
        load(**file)
    with pytest.raises(SourceError) as prefixed:
        load(**file, state_dict_key="state_dict")
    # then the next one is named, and the last one loads
    assert "`state_dict_key: state_dict`" in nested.value.hint
    assert "`strip_prefix: module.`" in prefixed.value.hint
    assert load(**file, state_dict_key="state_dict", strip_prefix="module.").digest == trained.digest


def test_weights_that_do_not_fit_are_named(tmp_path):
    torch.save(load(arguments={"num_classes": 7}).module.state_dict(), tmp_path / "w.pth")
    with pytest.raises(SourceError, match=r"fc\.weight \(7, \d+\), the model has \(1000, \d+\)") as raised:
        load(file=str(tmp_path / "w.pth"))
    assert raised.value.key == "source.file"


def test_offline_is_an_error_unless_seeded_weights_will_do():
    with pytest.raises(SourceError) as raised:
        load(pretrained=True)
    assert "offline: seeded" in (raised.value.hint or "")
    assert raised.value.key == "source.pretrained"
    assert load(pretrained=True, offline="seeded").seeded


@pytest.mark.parametrize(
    ("change", "said", "hint", "key"),
    [
        ({"name": "resnet_18"}, "timm has no model resnet_18", "resnet", "name"),
        ({"name": "resnet18.a1_in2k"}, "has no weights a1_in2k; it has a1_in1k", "a1_in1k", "name"),
        ({"arguments": {"num_clases": 3}}, "num_clases", "", "arguments"),
        ({"name": "test_maxvit"}, "does not run on image (1, 3, 64, 64): height (16) must be divisible", "shape", None),
    ],
)
def test_wrong_names(change, said, hint, key):
    with pytest.raises(SourceError, match=re.escape(said)) as raised:
        load(**change)
    assert hint in (raised.value.hint or "")
    assert raised.value.key == (f"source.{key}" if key else "input")


def test_without_the_package_the_command_that_installs_it_is_told(monkeypatch):
    # given an environment without timm
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    # then
    with pytest.raises(UnfitEnvironmentError) as raised:
        load()
    assert raised.value.hint == "pip install 'coreml-builder[timm]'"
    assert raised.value.exit_code == 7


def test_a_package_that_breaks_is_not_called_missing():
    with pytest.raises(UnfitEnvironmentError, match="cannot import name 'x' from 'y'"), optional_packages("timm"):
        raise ImportError("cannot import name 'x' from 'y'")
