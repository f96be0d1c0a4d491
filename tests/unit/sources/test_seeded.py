"""Seeded weights: the same bits everywhere, and outputs that tell inputs apart in half precision."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builder.model.sources.seeded import CALMER, initialise_seeded
from builder.model.torchvision_import import import_torchvision

ARCHITECTURES = (
    "mobilenet_v2",
    "resnet18",
    "small_vit",
    "convnext_tiny",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "swin_t",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _pictures(count: int, size: int) -> Tensor:
    """Smooth random pictures, about normalised: float32 (count, 3, size, size)."""
    generator = np.random.default_rng(5)
    coarse = torch.from_numpy(generator.normal(size=(count, 3, 8, 8)).astype(np.float32))
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear") * 1.5


def _make(name: str, **arguments: object) -> nn.Module:
    if name == "small_vit":  # drawing torchvision's own initial weights of vit_b_16 takes seconds
        vision_transformer = import_torchvision().models.VisionTransformer
        small: nn.Module = vision_transformer(224, 16, num_layers=4, num_heads=4, hidden_dim=128, mlp_dim=512)
        return small
    module: nn.Module = import_torchvision().models.get_model(name, weights=None, **arguments)
    return module


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / a.norm())


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:.*init_weights.*:FutureWarning")  # torchvision's own
def test_outputs_tell_inputs_apart_and_survive_half_precision(name: str) -> None:
    module = _make(name)
    pictures = _pictures(4, 224)
    initialise_seeded(module, [pictures[:2]], seed=0)
    with torch.inference_mode():
        # The last two pictures are new to the batch-norm statistics.
        outputs = module(pictures[1:3])
        halves = module.half()(pictures[1:3].half()).float()
    # Published weights give logits with a standard deviation of 1 to 3; within a factor of ten is fit to compare.
    assert 0.2 < float(outputs.std()) < 10
    assert _relative(outputs[0], outputs[1]) > 0.05
    # Half precision keeps 11 bits; the error must be far below what tells the inputs apart.
    assert _relative(outputs, halves) < 0.02
    assert _relative(halves[0], halves[1]) > 5 * _relative(outputs, halves)


def test_default_initialisation_would_not_do() -> None:
    module = _make("mobilenet_v2").eval()
    with torch.inference_mode():
        assert float(module(_pictures(1, 224)).abs().max()) < 1e-6  # all zero in half precision


def test_the_bits_depend_on_the_seed_alone() -> None:
    digests = []
    pictures = _pictures(2, 96)
    for torch_seed, threads, seed in ((1, 1, 7), (2, 2, 7), (1, 1, 8)):
        torch.manual_seed(torch_seed)
        module = _make("mobilenet_v2", width_mult=0.25)
        torch.set_num_threads(threads)
        initialise_seeded(module, [pictures], seed=seed)
        assert torch.get_num_threads() == threads
        digests.append(_digest(module))
    assert digests[0] == digests[1] != digests[2]


def test_another_instruction_set_gives_the_same_bits(tmp_path: Path) -> None:
    code = (
        "import sys, torch\n"
        "from builder.model.sources.seeded import initialise_seeded\n"
        "from builder.model.sources.state import module_digest\n"
        "from builder.model.torchvision_import import import_torchvision\n"
        "module = import_torchvision().models.mobilenet_v2(weights=None, width_mult=0.25)\n"
        "initialise_seeded(module, [torch.load(sys.argv[1])], seed=0)\n"
        "print(module_digest(module))\n"
    )
    torch.save(_pictures(1, 64), tmp_path / "pictures.pt")
    run = partial(subprocess.run, [sys.executable, "-c", code, str(tmp_path / "pictures.pt")], check=True, text=True)
    plain = os.environ | {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_NUM_THREADS": "2"}
    digests = [run(env=environment, stdout=subprocess.PIPE).stdout for environment in (os.environ, plain)]
    assert digests[0].startswith("sha256:")
    assert digests[0] == digests[1]


def test_last_bits_of_the_forward_pass_do_not_reach_the_statistics() -> None:
    digests = []
    pictures = _pictures(2, 96).double()
    # What another order of summation changes, and more: every input off by some last bits of float64.
    for disturbance in (0.0, 1e-15):
        module = _make("mobilenet_v2", width_mult=0.25)
        initialise_seeded(module, [pictures * (1 + disturbance)], seed=0)
        digests.append(_digest(module))
    assert digests[0] == digests[1]


def test_dtypes_integer_buffers_and_eval_mode_are_kept() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
    before = {name: tensor.dtype for name, tensor in module.state_dict().items()}
    initialise_seeded(module, [_pictures(1, 16)], seed=0)
    assert {name: tensor.dtype for name, tensor in module.state_dict().items()} == before
    assert not any(layer.training for layer in module.modules())
    assert not any(layer._forward_pre_hooks for layer in module.modules())


class KeepsItsBias(nn.Module):
    """As LeViT of transformers does: what follows from its parameters is kept while it does not train."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4, 1, 1))
        self.kept: Tensor | None = None

    def train(self, mode: bool = True) -> KeepsItsBias:
        super().train(mode)
        self.kept = None if mode else self.kept
        return self

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.bias + 0 if self.kept is None else self.kept
        return x + self.kept


def test_nothing_in_float64_is_kept() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), KeepsItsBias(), nn.BatchNorm2d(4))
    initialise_seeded(module, [_pictures(1, 16)], seed=0)
    assert module(_pictures(1, 16)).dtype == torch.float32


class MakesFloat32(nn.Module):
    """As RAFT's grid: a tensor of its own, of one dtype, meets that of the parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.eye(x.shape[-1], dtype=torch.float32)


def test_a_model_that_makes_tensors_of_one_dtype_gets_statistics_too() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), MakesFloat32(), nn.BatchNorm2d(4))
    plain = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Identity(), nn.BatchNorm2d(4))
    for each in (module, plain):
        initialise_seeded(each, [_pictures(4, 16)], seed=0)
    assert torch.equal(module[2].running_var, plain[2].running_var)
    assert module(_pictures(1, 16)).dtype == torch.float32


class Alike(nn.Module):
    """As LeViT's last layers: the parts of a picture are nearly alike, and pictures are not."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True) + 1e-4 * x


def test_where_one_picture_says_nothing_of_others_several_are_taken() -> None:
    first, *others = [[_pictures(1, 16) + shift] for shift in (0.0, 0.5, -0.5)]
    sizes = {}
    for further in ((), others):
        module = nn.Sequential(nn.Conv2d(3, 4, 3), Alike(), nn.BatchNorm2d(4))
        initialise_seeded(module, first, 0, further)
        sizes[bool(further)] = float(module(_pictures(1, 16) + 0.3).detach().abs().max())
    assert sizes[True] < 20 < 100 < sizes[False]


class Doubling(nn.Module):
    """The fractions of doubled values: what is small doubles in every layer, as in a network at the edge of chaos."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.frac(2 * x + 8)


def test_where_small_changes_grow_signals_are_made_narrower() -> None:
    # given a network in which a small change doubles in each of 16 layers, and one in which it does not
    variances = []
    for layers in (16, 0):
        module = nn.Sequential(nn.BatchNorm2d(3), *(Doubling() for _ in range(layers)))
        initialise_seeded(module, [_pictures(1, 8)], 0)
        variances.append(module[0].running_var)
    # then its variances are taken for larger
    assert torch.equal(variances[0], CALMER * variances[1])


def test_batch_norm_of_single_values_gets_a_spread() -> None:
    """After global pooling a channel has one value a picture: its own variance would be zero."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8))
    initialise_seeded(module, [_pictures(1, 16)], seed=0)
    assert isinstance(module[2], nn.BatchNorm2d)
    assert isinstance(module[2].running_var, Tensor)
    assert float(module[2].running_var.min()) > 0
    assert float(module(_pictures(1, 16)).detach().std()) > 0.1


def test_segmentation_models_answer_differently_everywhere() -> None:
    module = import_torchvision().models.get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None)
    pictures = _pictures(2, 96)
    initialise_seeded(module, [pictures], seed=0)
    with torch.inference_mode():
        outputs = module(pictures)["out"]
    assert 0.2 < float(outputs.std()) < 10
    assert _relative(outputs[0], outputs[1]) > 0.05


def test_recurrent_and_embedding_models_get_outputs() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 16)
            self.lstm = nn.LSTM(16, 32, batch_first=True)
            self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
            self.scale = nn.Parameter(torch.full((32,), 1e-6))
            self.head = nn.ConvTranspose1d(32, 8, 4, stride=2)

        def forward(self, tokens: Tensor) -> Tensor:
            x, _ = self.lstm(self.embedding(tokens))
            x = x + self.scale * self.attention(x, x, x)[0]
            result: Tensor = self.head(x.transpose(1, 2))
            return result

    module = Reader()
    tokens = torch.arange(20).reshape(2, 10)
    initialise_seeded(module, [tokens], seed=0)
    outputs = module(tokens).detach()
    assert float(module.scale.detach().min()) > 0.1
    assert 0.05 < float(outputs.std()) < 10
    assert _relative(outputs[0], outputs[1]) > 0.05
