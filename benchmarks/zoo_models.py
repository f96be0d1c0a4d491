"""The architectures of the zoo: for each a recipe's `source` and `input`, small enough for a CPU.

Those of timm and torchvision that take any size are given little pictures; the others have the size in their name.
"""

from __future__ import annotations

from typing import Any

Recipe = dict[str, Any]
"""The sections `source` and `input` of a recipe, and `detection` of a detector's."""


def _tensor(*shape: int, **more: Any) -> dict[str, Any]:
    return {"kind": "tensor", "shape": list(shape), **more}


def _ids(length: int = 16, high: int = 200) -> dict[str, Any]:
    return _tensor(1, length, dtype="int32", low=0, high=high)


def _mask(length: int = 16) -> dict[str, Any]:
    """A mask of zeros and ones, as an input's range needs two integers."""
    return _tensor(1, length, dtype="int32", low=0, high=2)


def _torchvision(name: str, *shape: int, **arguments: Any) -> Recipe:
    source = {"kind": "torchvision", "name": name, "weights": None, "arguments": arguments}
    return {"source": source, "input": {"image": _tensor(1, 3, *shape)}}


def _detector(name: str, size: int) -> Recipe:
    """All decoded boxes and their scores: the tensor part, without the stage of suppression behind it."""
    classes = 91 if name.startswith(("retinanet", "fcos")) else 90
    detection = {"kind": "torchvision", "output": "raw", "labels": [f"class {index}" for index in range(classes)]}
    return {**_torchvision(name, size, size), "detection": detection}


def _flow(name: str) -> Recipe:
    source = {"kind": "torchvision", "name": name, "weights": None}
    return {"source": source, "input": {n: _tensor(1, 3, 128, 128) for n in ("image1", "image2")}}


def _timm(name: str, size: int) -> Recipe:
    return {"source": {"kind": "timm", "name": name}, "input": {"image": _tensor(1, 3, size, size)}}


def _transformers(config_class: str, inputs: dict[str, Any], auto_class: str = "AutoModel", **arguments: Any) -> Recipe:
    source = {"kind": "huggingface", "auto_class": auto_class, "config_class": config_class, "arguments": arguments}
    return {"source": source, "input": inputs}


_SMALL = {
    "vocab_size": 200,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
_DECODER = {**_SMALL, "num_key_value_heads": 2, "max_position_embeddings": 64}
_PICTURE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_TEXT = {"input_ids": _ids(), "attention_mask": _mask()}

TORCHVISION: dict[str, Recipe] = {
    **{
        name: _torchvision(name, size, size)
        for name, size in {
            "alexnet": 64, "convnext_tiny": 64, "densenet121": 64, "efficientnet_b0": 64, "efficientnet_v2_s": 64,
            "mnasnet0_5": 64, "mobilenet_v2": 64, "mobilenet_v3_small": 64, "regnet_y_400mf": 64, "resnet18": 64,
            "resnext50_32x4d": 64, "shufflenet_v2_x0_5": 64, "squeezenet1_1": 64, "swin_t": 64, "swin_v2_t": 64,
            "vgg11": 64, "vit_b_32": 224, "wide_resnet50_2": 64, "deeplabv3_mobilenet_v3_large": 64, "fcn_resnet50": 64,
            "lraspp_mobilenet_v3_large": 64, "maxvit_t": 224,
        }.items()
    },
    "googlenet": _torchvision("googlenet", 64, 64, aux_logits=False, init_weights=False),
    "inception_v3": _torchvision("inception_v3", 96, 96, aux_logits=False, init_weights=False),
    "r3d_18": _torchvision("r3d_18", 4, 48, 48),
    "mc3_18": _torchvision("mc3_18", 4, 48, 48),
    "r2plus1d_18": _torchvision("r2plus1d_18", 4, 48, 48),
    "s3d": _torchvision("s3d", 16, 224, 224),
    "swin3d_t": _torchvision("swin3d_t", 4, 64, 64),
    "mvit_v2_s": _torchvision("mvit_v2_s", 16, 224, 224),
    "raft_small": _flow("raft_small"),
    **{
        name: _detector(name, size)
        for name, size in {
            "ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320, "retinanet_resnet50_fpn": 64,
            "fcos_resnet50_fpn": 64, "fasterrcnn_mobilenet_v3_large_320_fpn": 64,
        }.items()
    },
}  # fmt: skip
"""One of each family of classification, segmentation, video, optical flow and detection (raw tensors)."""

TIMM: dict[str, Recipe] = {
    name: _timm(name, size)
    for name, size in {
        "mobilenetv4_conv_small": 64, "efficientnet_lite0": 64, "mobileone_s0": 64, "fastvit_t8": 64,
        "efficientformerv2_s0": 224, "repvit_m0_9": 64, "mobilevit_xxs": 64, "mobilevitv2_050": 64,
        "ghostnet_100": 64, "ghostnetv2_100": 64, "tinynet_e": 64, "edgenext_xx_small": 64, "levit_128s": 224,
        "convnextv2_atto": 64, "deit_tiny_patch16_224": 224, "vit_tiny_patch16_224": 224,
        "swin_tiny_patch4_window7_224": 224, "swinv2_cr_tiny_224": 224, "pit_ti_224": 224, "coat_lite_tiny": 224,
        "crossvit_tiny_240": 240, "xcit_nano_12_p8_224": 224, "poolformer_s12": 64, "pvt_v2_b0": 64,
        "mixer_s16_224": 224, "gmlp_ti16_224": 224, "resmlp_12_224": 224, "regnetx_002": 64, "res2net50_26w_4s": 64,
        "resnest14d": 64, "seresnet18": 64, "skresnet18": 64, "darknet53": 64, "cspresnet50": 64, "dla34": 64,
        "hrnet_w18_small": 64, "hardcorenas_a": 64, "mnasnet_small": 64, "nfnet_f0": 64, "eca_nfnet_l0": 64,
        "lambda_resnet26t": 64, "halonet26t": 256, "botnet26t_256": 256, "volo_d1_224": 224, "cait_xxs24_224": 224,
        "maxvit_rmlp_pico_rw_256": 256, "coatnet_pico_rw_224": 224, "hiera_tiny_224": 224, "tiny_vit_5m_224": 224,
        "efficientvit_b0": 64, "nextvit_small": 64, "inception_next_atto": 64, "starnet_s1": 64,
        "focalnet_tiny_srf": 64, "davit_tiny": 64, "beit_base_patch16_224": 224, "eva02_tiny_patch14_224": 224,
        "twins_svt_small": 224, "convmixer_768_32": 64, "sequencer2d_s": 64,
    }.items()
}  # fmt: skip

TRANSFORMERS: dict[str, Recipe] = {
    "bert": _transformers("BertConfig", _TEXT, **_SMALL),
    "distilbert": _transformers(
        "DistilBertConfig", _TEXT, vocab_size=200, dim=64, n_layers=2, n_heads=4, hidden_dim=128
    ),
    "roberta": _transformers("RobertaConfig", _TEXT, **_SMALL, max_position_embeddings=64),
    "deberta_v2": _transformers(
        "DebertaV2Config",
        _TEXT,
        **_SMALL,
        relative_attention=True,
        position_buckets=8,
        max_position_embeddings=32,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        type_vocab_size=0,
    ),
    "modernbert": _transformers(
        "ModernBertConfig",
        _TEXT,
        **_SMALL,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        local_attention=8,
        global_attn_every_n_layers=2,
    ),
    "gpt2": _transformers(
        "GPT2Config", {"input_ids": _ids()}, "AutoModelForCausalLM", vocab_size=200, n_embd=64, n_layer=2, n_head=4,
        bos_token_id=0, eos_token_id=0,
    ),
    "llama": _transformers("LlamaConfig", {"input_ids": _ids()}, "AutoModelForCausalLM", **_DECODER),
    "qwen3": _transformers("Qwen3Config", {"input_ids": _ids()}, "AutoModelForCausalLM", **_DECODER, head_dim=16),
    "gemma3": _transformers(
        "Gemma3TextConfig", {"input_ids": _ids()}, "AutoModelForCausalLM", **_DECODER, head_dim=16, sliding_window=8
    ),
    "vit": _transformers("ViTConfig", {"pixel_values": _tensor(1, 3, 32, 32)}, **_PICTURE, image_size=32, patch_size=8),
    "dinov2": _transformers(
        "Dinov2Config", {"pixel_values": _tensor(1, 3, 56, 56)}, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, image_size=42, patch_size=14,
    ),
    "segformer": _transformers(
        "SegformerConfig", {"pixel_values": _tensor(1, 3, 64, 64)}, "SegformerForSemanticSegmentation",
        hidden_sizes=[16, 32, 64, 64], depths=[1, 1, 1, 1], decoder_hidden_size=64,
    ),
    "convnext": _transformers(
        "ConvNextConfig", {"pixel_values": _tensor(1, 3, 64, 64)}, hidden_sizes=[16, 32, 64, 64], depths=[1, 1, 2, 1]
    ),
    "clip_vision": _transformers(
        "CLIPVisionConfig", {"pixel_values": _tensor(1, 3, 32, 32)}, "CLIPVisionModel", **_PICTURE, image_size=32,
        patch_size=8,
    ),
    "whisper": _transformers(
        "WhisperConfig",
        {"input_features": _tensor(1, 20, 64), "decoder_input_ids": _ids(8)},
        vocab_size=200, num_mel_bins=20, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, d_model=64, max_source_positions=32,
        max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
    ),
    "wav2vec2": _transformers(
        "Wav2Vec2Config", {"input_values": _tensor(1, 1600)}, **_SMALL, conv_dim=[32, 32, 32], conv_stride=[5, 2, 2],
        conv_kernel=[10, 3, 3], num_feat_extract_layers=3, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    ),
    "mamba": _transformers(
        "MambaConfig", {"input_ids": _ids(8)}, vocab_size=200, hidden_size=32, num_hidden_layers=2, state_size=8
    ),
    "t5_encoder": _transformers(
        "T5Config", {"input_ids": _ids(), "attention_mask": _mask()}, "T5EncoderModel", vocab_size=200, d_model=64,
        d_kv=16, d_ff=128, num_layers=2, num_heads=4,
    ),
}  # fmt: skip

FAMILIES = {"torchvision": TORCHVISION, "timm": TIMM, "transformers": TRANSFORMERS}

OF_CORE_AI: dict[str, tuple[str, ...]] = {
    **{name: tuple(models) for name, models in FAMILIES.items()},
    "timm": tuple(TIMM)[::2],
}
"""What is converted for Core AI too: every second architecture of timm, and all others."""
