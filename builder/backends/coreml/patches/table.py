"""Every name of coremltools, onnxsim and torch that is replaced while a conversion or a compression lasts, and why.

A test holds the digests: when an upgrade changes a function that we replace, it says which, and the reason tells what
to look at. A row goes when its reason is gone upstream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Purpose = Literal["correctness", "determinism", "speed", "quiet", "report"]
"""Where the target is missing: the first two end the build, the others are skipped with a log line."""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One replaced name."""

    target: str
    """`package.module:name`, or `package.module:Class.name`."""
    purpose: Purpose
    reason: str
    issue: str | None = None
    """Upstream's issue, where there is one."""
    source: str | None = None
    """The first twelve digits of the SHA-256 of the replaced function's source; None for what is not a function."""


_MIL = "coremltools.converters.mil"
_PASSES = "coremltools.optimize.coreml._quantization_passes"
_NETWORKS = "coremltools.models.neural_network.quantization_utils"

_ROWS = (
    Patch(
        target=f"{_MIL}.backend.mil.load:_add_classify_op",
        purpose="correctness",
        reason="gives the dictionary of probabilities another name than the recipe's",
        source="25b0cd352de9",
    ),
    Patch(
        target=f"{_MIL}.mil.passes.defs.optimize_elementwise_binary:fuse_elementwise_to_batchnorm._match_pattern",
        purpose="correctness",
        reason="fuses an image's normalisation to a batch_norm whose epsilon makes it too small by 5e-6",
        source="38719070225f",
    ),
    Patch(
        target=f"{_MIL}.mil.passes.defs.quantization:add_int16_cast.should_cast_parameter",
        purpose="correctness",
        reason="casts int32 data to 16 bits whatever its values are",
        issue="apple/coremltools#2222",
        source="43417977cc26",
    ),
    Patch(
        target=f"{_MIL}.mil.passes.defs.cleanup.noop_elimination:noop_elimination._match_pattern",
        purpose="correctness",
        reason="removes floor_div by one, which takes the fraction off",
        issue="apple/coremltools#2836",
        source="45ab5f37c70a",
    ),
    Patch(
        target=f"{_MIL}.mil.passes.defs.optimize_linear:fuse_linear_bias._try_to_transform",
        purpose="correctness",
        reason="ends in IndexError where a scalar is added to one output, and drops leading axes of what is added",
        source="86abb962d625",
    ),
    Patch(
        target=f"{_MIL}.mil.passes.defs.lower_complex_dialect_ops:_calculate_dft_matrix",
        purpose="correctness",
        reason="takes cosines of thousands of radians in float32",
        source="b595a7f11371",
    ),
    Patch(
        target=f"{_MIL}.backend.nn.op_mapping:add_upsample_nn",
        purpose="correctness",
        reason="interpolates between nearest neighbours where a factor is not whole",
        source="05fe1bd8b26a",
    ),
    Patch(
        target=f"{_MIL}.backend.nn.op_mapping:_add_elementwise_unary",
        purpose="correctness",
        reason="an epsilon of 0 of rsqrt and inverse is 1e-6 in a neural network",
        source="bcb645d2351b",
    ),
    Patch(
        target=f"{_MIL}.frontend.torch.ops:_construct_constant",
        purpose="correctness",
        reason="writes infinite numbers of traces as 3.4e38",
        source="065fbce8ab0d",
    ),
    Patch(
        target=f"{_MIL}.frontend.torch.ops:convert_single_node",
        purpose="correctness",
        reason="refuses operators that torch defines by others, and does not let the preflight see each of them",
        source="f984254cca44",
    ),
    Patch(
        target="onnxsim.coreml_export:_Lowerer",
        purpose="correctness",
        reason="brings our handlers of ONNX operators",
        source="df19a4cbe44f",
    ),
    Patch(
        target="onnxsim.coreml_export:_resolve_quantized_target",
        purpose="correctness",
        reason="raises the target to iOS 17 for quantized graphs, which we lower to arithmetic of every system",
        source="b4ea26cfd060",
    ),
    Patch(
        target=f"{_NETWORKS}:_get_model",
        purpose="correctness",
        reason="loads the model into Apple's framework, which Linux has not",
        source="cb1da13ab512",
    ),
    Patch(
        target=f"{_NETWORKS}:_get_kmeans_lookup_table_and_weight",
        purpose="determinism",
        reason="k-means of scikit-learn differs between machines and its versions",
        source="195b3f07294c",
    ),
    Patch(
        target=f"{_PASSES}:_get_kmeans_lookup_table_and_weight",
        purpose="determinism",
        reason="k-means of scikit-learn differs between machines and its versions",
        source="195b3f07294c",
    ),
    Patch(target=f"{_PASSES}:np", purpose="determinism", reason="percentiles of equal values depend on their order"),
    Patch(
        target="coremltools.optimize._utils:get_min_and_max_values",
        purpose="determinism",
        reason="the range of a weight is taken in its own precision",
        source="317f0ff5d849",
    ),
    Patch(target=f"{_PASSES}:tqdm", purpose="quiet", reason="draws a bar"),
    Patch(target=f"{_MIL}.mil.passes.pass_pipeline:tqdm", purpose="quiet", reason="draws a bar"),
    Patch(target=f"{_MIL}.frontend.torch.ops:_tqdm", purpose="quiet", reason="draws a bar"),
    Patch(target=f"{_MIL}.backend.nn.op_mapping:_tqdm", purpose="quiet", reason="draws a bar"),
    Patch(
        target="coremltools.optimize._utils:_logger",
        purpose="quiet",
        reason="says in the root logger why weights are left alone",
    ),
    Patch(
        target=f"{_MIL}.mil.program:Program.validate",
        purpose="speed",
        reason="runs after each of a hundred passes; we run it once, on the final program",
        source="a7186c0da18e",
    ),
    Patch(
        target=f"{_MIL}.mil.program:Program.__str__",
        purpose="speed",
        reason="the pass manager formats the whole program for debug messages that nobody reads",
        source="3c70a41743f7",
    ),
    Patch(
        target=f"{_MIL}.mil.block:Function.__str__",
        purpose="speed",
        reason="the pass manager formats the whole program for debug messages that nobody reads",
        source="d7a9064e8b68",
    ),
    Patch(
        target="coremltools.converters._converters_entry:gc",
        purpose="speed",
        reason="collects garbage in every conversion",
    ),
    Patch(
        target=f"{_MIL}.mil.var:Var._is_nonreplaceable_var",
        purpose="speed",
        reason="notes whether there is any variable whose dependants must be known",
        source="3ac3dbf42213",
    ),
    Patch(
        target=f"{_MIL}.mil.block:Block._propagate_nonreplaceable_vars",
        purpose="speed",
        reason="walks all operators although constants, three of four, depend on nothing",
        source="03a326891a98",
    ),
    Patch(
        target=f"{_MIL}.mil.passes.defs.quantization:FP16ComputePrecision.fp16_overflow",
        purpose="speed",
        reason="copies every weight several times to find its range",
        source="2af40165b43c",
    ),
    Patch(
        target=f"{_MIL}.mil.passes.defs.quantization:FP16ComputePrecision._check_underflow_to_zero",
        purpose="speed",
        reason="copies every weight although it looks at less than 400 values",
        source="7742c76cbbf0",
    ),
    Patch(
        target=f"{_MIL}.mil.passes.defs.optimize_repeat_ops:reduce_transposes._reduce_transposes_block",
        purpose="speed",
        reason="infers every operator again where there is no transpose",
        source="de689ae73806",
    ),
    Patch(
        target=f"{_MIL}.mil.ops.defs.iOS15.control_flow:Const._get_type_val",
        purpose="speed",
        reason="computes a constant for its type, and again for its value",
        source="bcc88a573ae1",
    ),
    Patch(target=f"{_MIL}.mil.var:copy", purpose="speed", reason="copies scopes, lists of text, deeply"),
    Patch(
        target=f"{_MIL}.mil.types:is_tensor", purpose="speed", reason="is asked a million times", source="0574ba94dd69"
    ),
    Patch(
        target=f"{_MIL}.mil.types.type_mapping:is_tensor",
        purpose="speed",
        reason="is asked a million times",
        source="0574ba94dd69",
    ),
    Patch(
        target=f"{_MIL}.mil.types.type_tensor:is_tensor",
        purpose="speed",
        reason="is asked a million times",
        source="0574ba94dd69",
    ),
    Patch(
        target=f"{_MIL}.frontend.torch.internal_graph:InternalTorchIRNode.from_torchscript_node",
        purpose="report",
        reason="forgets from which line of the model an operator comes",
        source="0bda31df993c",
    ),
    Patch(
        target=f"{_MIL}.frontend.torch.torchscript_utils:torch",
        purpose="speed",
        reason="reads tensors to assert that they are equal which share their memory",
    ),
    Patch(
        target=f"{_MIL}.converter:_tempfile",
        purpose="speed",
        reason="leaves packages in the system's temporary folder; ours is removed with the model",
    ),
    Patch(
        target="coremltools.models.model:_create_mlpackage",
        purpose="speed",
        reason="writes weights twice",
        source="1c841998cf67",
    ),
    Patch(
        target="coremltools.models.model:_save_spec",
        purpose="speed",
        reason="writes what is read back",
        source="8c089fdb7b5b",
    ),
    Patch(
        target="coremltools.models.model:_load_spec",
        purpose="speed",
        reason="reads what was just made",
        source="2e6a5f9a186e",
    ),
    Patch(
        target="coremltools.models.model:_atexit",
        purpose="speed",
        reason="registers packages for removal that are removed with their model",
    ),
    Patch(
        target="torch._export.serde.serialize:typing",
        purpose="speed",
        reason="looks up the types of a class for each value of an archive",
    ),
)

PATCHES: Mapping[str, Patch] = {patch.target: patch for patch in _ROWS}
if len(PATCHES) != len(_ROWS):
    raise ValueError("a name is replaced by two rows")
