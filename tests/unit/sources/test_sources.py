"""Models are loaded from what people have, and what does not fit is named."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from builder.artifacts.stages import ExampleInputs, Sample
from builder.errors import SourceError
from builder.model.sources import load_source
from builder.model.sources.state import module_digest, take_state
from builder.model.torchvision_import import import_torchvision
from builder.progress import Silent
from builder.spec import BuildSpec

torchvision = import_torchvision()


class Small(nn.Module):
    """A model that tests can name as `tests…:Small`."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(x))


def not_a_module() -> int:
    return 3


SMALL = f"{__name__}:Small"


def load(**source):
    spec = BuildSpec.model_validate(
        {
            "source": source,
            "input": {"x": {"kind": "tensor", "shape": [1, 3]}},
            "precision": {"kind": "fp32"},
            "target": {"name": "ios15"},
            "tracking": {"kind": "none"},
        }
    )
    return load_source(spec, examples(torch.randn(1, 3)), Silent())


def examples(*tensors: torch.Tensor) -> ExampleInputs:
    samples = tuple(Sample(given={}, tensors={"x": tensor}) for tensor in tensors)
    return ExampleInputs(samples=samples, digest="sha256:0")


@pytest.fixture
def trained() -> Small:
    torch.manual_seed(1)
    return Small()


def test_a_state_dict_into_a_factory(trained, tmp_path):
    # given
    torch.save(trained.state_dict(), tmp_path / "m.pth")
    # when
    loaded = load(kind="checkpoint", file=str(tmp_path / "m.pth"), factory=SMALL)
    # then
    assert torch.equal(loaded.module.linear.weight, trained.linear.weight)
    assert not loaded.module.training
    assert re.fullmatch("[0-9a-f]{64}", loaded.origin["file_sha256"])


def test_a_nested_training_state_of_a_parallel_model(trained, tmp_path):
    state = {f"module.{k}": v for k, v in trained.state_dict().items()}
    torch.save({"epoch": 3, "net": {"state_dict": state}}, tmp_path / "m.pth")
    loaded = load(
        kind="checkpoint",
        file=str(tmp_path / "m.pth"),
        factory=SMALL,
        state_dict_key="net.state_dict",
        strip_prefix="module.",
    )
    assert module_digest(loaded.module) == module_digest(trained)


def test_a_whole_module_only_when_the_pickle_is_trusted(trained, tmp_path):
    torch.save(trained, tmp_path / "m.pth")
    with pytest.raises(SourceError, match=r"Small") as refused:
        load(kind="checkpoint", file=str(tmp_path / "m.pth"))
    assert "trust_pickle: true" in (refused.value.hint or "")
    loaded = load(kind="checkpoint", file=str(tmp_path / "m.pth"), trust_pickle=True)
    assert module_digest(loaded.module) == module_digest(trained)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"factory": "nowhere:f"}, "there is no module nowhere"),
        ({"factory": f"{__name__}:Smal"}, "has no Smal"),
        ({"factory": f"{__name__}:not_a_module"}, "returned a int"),
        ({"arguments": {"depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"arguments": {"width": 5}}, "linear.weight (4, 3), the model has (5, 3)"),
        ({"state_dict_key": "ema"}, "has no entry ema"),
        ({"strip_prefix": "module."}, "no key of"),
        ({"sha256": "0" * 64}, "the recipe expects 0000"),
        ({"factory": None, "trust_pickle": True}, "not a whole module"),
    ],
)
def test_what_does_not_fit_is_named(trained, tmp_path, change, said):
    torch.save(trained.state_dict(), tmp_path / "m.pth")
    settings = {"kind": "checkpoint", "file": str(tmp_path / "m.pth"), "factory": SMALL} | change
    with pytest.raises(SourceError, match=re.escape(said)) as raised:
        load(**settings)
    assert raised.value.key is not None
    assert raised.value.key.startswith("source")


def test_keys_of_a_parallel_model_get_a_hint(trained, tmp_path):
    torch.save({f"module.{k}": v for k, v in trained.state_dict().items()}, tmp_path / "m.pth")
    with pytest.raises(SourceError) as raised:
        load(kind="checkpoint", file=str(tmp_path / "m.pth"), factory=SMALL)
    assert "strip_prefix: module." in (raised.value.hint or "")


class Normed(nn.Module):
    """A convolution with weight_norm as torch parametrises it today."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 3))
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


def test_keys_of_older_versions_of_torch_are_taken_as_torch_takes_them(tmp_path):
    # given a file with the keys that weight_norm had before torch 2.1, and without what batch norms count since 0.4
    generator = torch.Generator().manual_seed(3)
    state = Normed().state_dict()
    old = {
        "conv.weight_g": torch.rand(4, 1, 1, generator=generator),
        "conv.weight_v": torch.randn(4, 3, 3, generator=generator),
        **{k: v for k, v in state.items() if "original" not in k and "num_batches" not in k},
    }
    torch.save(old, tmp_path / "m.pth")
    # when
    loaded = load(kind="checkpoint", file=str(tmp_path / "m.pth"), factory=f"{__name__}:Normed")
    # then
    length = old["conv.weight_v"].flatten(1).norm(dim=1).view(4, 1, 1)
    torch.testing.assert_close(loaded.module.conv.weight, old["conv.weight_g"] * old["conv.weight_v"] / length)


def test_without_strict_what_does_not_fit_is_left_out_and_listed(trained, tmp_path):
    # given a file with two names that the model has not, and without one that it has
    extra = {"loss.scale": torch.ones(1), "loss.bias": torch.ones(1)}
    state = {k: v for k, v in trained.state_dict().items() if k != "linear.bias"} | extra
    torch.save(state, tmp_path / "m.pth")
    source = {"kind": "checkpoint", "file": str(tmp_path / "m.pth"), "factory": SMALL}
    # when it is loaded strictly, then all are named
    with pytest.raises(SourceError, match=r"1 missing in the file \(linear\.bias\); 2 unknown to the model"):
        load(**source)
    # when it is not, then the rest is loaded, and what was not is in the record
    loaded, again = load(**source, strict=False), load(**source, strict=False)
    assert torch.equal(loaded.module.linear.weight, trained.linear.weight)
    assert loaded.origin["unknown"] == ["loss.scale", "loss.bias"]
    assert loaded.origin["missing"] == ["linear.bias"]
    assert loaded.digest == again.digest
    # nor does it cover other shapes
    with pytest.raises(SourceError, match="of another shape"):
        load(**source, strict=False, arguments={"width": 5})


def test_the_hint_for_names_that_are_left_over_is_the_setting_that_leaves_them_out(trained, tmp_path):
    torch.save(trained.state_dict() | {"loss.scale": torch.ones(1)}, tmp_path / "m.pth")
    with pytest.raises(SourceError) as raised:
        load(kind="checkpoint", file=str(tmp_path / "m.pth"), factory=SMALL)
    assert "strict: false" in (raised.value.hint or "")


def linear(key: int = 3, what: int = 2, error: bool = True) -> nn.Module:
    return nn.Linear(key, what, bias=error)


def test_arguments_of_a_factory_may_have_any_name():
    loaded = load(kind="python", factory=f"{__name__}:linear", arguments={"key": 3, "what": 5, "error": False})
    assert loaded.module.weight.shape == (5, 3)
    assert loaded.module.bias is None


class Derived(nn.Module):
    """Makes a tensor of its weights that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.extra = [self.linear.weight * 2]


class Tied(nn.Module):
    """Two names of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight


@pytest.mark.parametrize(("made", "fits"), [(Small, True), (Derived, False), (Tied, False)])
def test_tensors_become_a_models_own_where_nothing_else_depends_on_them(made, fits):
    state = made().state_dict()
    with torch.device("meta"):
        module = made()
    assert take_state(module, state) is fits
    if fits:
        assert module_digest(module) == module_digest_of(made(), state)


def module_digest_of(module: nn.Module, state: dict[str, torch.Tensor]) -> str:
    module.load_state_dict(state)
    return module_digest(module)


def test_a_python_factory_is_seeded():
    first, second = load(kind="python", factory=SMALL, seed=3), load(kind="python", factory=SMALL, seed=3)
    other = load(kind="python", factory=SMALL, seed=4)
    assert first.digest == second.digest != other.digest


class TestTorchvision:
    """By name, without network."""

    def load(self, monkeypatch, tmp_path, **source):
        monkeypatch.setenv("BUILDER_CACHE", str(tmp_path))
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        spec = BuildSpec.model_validate(
            {
                "source": {"kind": "torchvision", "name": "mobilenet_v2", "timeout": 2.0} | source,
                "input": {"x": {"kind": "tensor", "shape": [1, 3, 64, 64]}},
                "precision": {"kind": "fp32"},
                "target": {"name": "ios15"},
                "tracking": {"kind": "none"},
            }
        )
        generator = torch.Generator().manual_seed(0)
        images = [torch.randn(1, 3, 64, 64, generator=generator) for _ in range(2)]
        return load_source(spec, examples(*images), Silent()), images

    def test_offline_is_an_error_by_default(self, monkeypatch, tmp_path):
        with pytest.raises(SourceError) as raised:
            self.load(monkeypatch, tmp_path, weights="IMAGENET1K_V2")
        assert "offline: seeded" in (raised.value.hint or "")
        assert raised.value.key == "source.weights"

    def test_offline_seeded_says_so_and_gives_a_model_fit_to_check(self, monkeypatch, tmp_path):
        # when
        loaded, images = self.load(monkeypatch, tmp_path, weights="IMAGENET1K_V2", offline="seeded")
        # then: outputs differ between inputs by far more than half rounds
        assert loaded.seeded
        assert loaded.labels is not None
        assert len(loaded.labels) == 1000
        with torch.no_grad():
            first, second = (loaded.module(image) for image in images)
        assert (first.half() - second.half()).abs().max() > 0.05 * first.abs().max() > 0.005

    def test_seeded_weights_are_the_same_every_time(self, monkeypatch, tmp_path):
        digests = {self.load(monkeypatch, tmp_path, seed=seed)[0].digest for seed in (1, 1, 2)}
        assert len(digests) == 2

    def test_a_local_file_needs_no_network(self, monkeypatch, tmp_path):
        seeded, _ = self.load(monkeypatch, tmp_path)
        torch.save(seeded.module.state_dict(), tmp_path / "w.pth")
        loaded, _ = self.load(monkeypatch, tmp_path, weights="DEFAULT", file=str(tmp_path / "w.pth"))
        assert loaded.digest == seeded.digest
        assert not loaded.seeded
        assert loaded.preprocessing is not None
        assert loaded.preprocessing.mean == (0.485, 0.456, 0.406)

    def test_no_weights_are_drawn_that_a_file_replaces(self, monkeypatch, tmp_path):
        # given weights of all that a model has; when it is loaded
        model = torchvision.models.shufflenet_v2_x0_5(weights=None)
        torch.save(model.state_dict(), tmp_path / "w.pth")
        given = {"name": "shufflenet_v2_x0_5", "weights": None, "file": str(tmp_path / "w.pth")}
        asked: list[torch.Tensor] = []
        monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", lambda tensor, *_, **__: asked.append(tensor))
        loaded, (image, _) = self.load(monkeypatch, tmp_path, **given)
        # then
        assert asked
        assert all(tensor.is_meta for tensor in asked)
        assert torch.equal(loaded.module(image), model.eval()(image))
        assert all(parameter.requires_grad for parameter in loaded.module.parameters())

    def test_weights_in_half_precision_fill_a_model_in_single_precision(self, monkeypatch, tmp_path):
        # given a file of another dtype than the model's, whose tensors cannot be the model's own
        model = torchvision.models.shufflenet_v2_x0_5(weights=None)
        torch.save(model.half().state_dict(), tmp_path / "w.pth")
        given = {"name": "shufflenet_v2_x0_5", "weights": None, "file": str(tmp_path / "w.pth")}
        loaded, (image, _) = self.load(monkeypatch, tmp_path, **given)
        assert {parameter.dtype for parameter in loaded.module.parameters()} == {torch.float32}
        assert torch.equal(loaded.module(image), model.float().eval()(image))

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"name": "mobilnet_v2"}, "torchvision has no model mobilnet_v2"),
            ({"weights": "IMAGENET1K_V3"}, "has no weights IMAGENET1K_V3; it has IMAGENET1K_V1, IMAGENET1K_V2"),
            ({"arguments": {"with_mult": 1}}, "with_mult"),
        ],
    )
    def test_wrong_names(self, monkeypatch, tmp_path, change, said):
        with pytest.raises(SourceError, match=re.escape(said)):
            self.load(monkeypatch, tmp_path, **change)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(3))


def test_a_lazy_module_that_never_ran_is_refused_with_what_to_write():
    with pytest.raises(SourceError, match=r"0\.bias of the model has no values: a lazy module") as refused:
        load(kind="python", factory=f"{__name__}:lazy")
    assert "run the model once where it is made" in (refused.value.hint or "")
