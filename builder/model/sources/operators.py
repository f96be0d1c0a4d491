"""The operators that a program from a file may call: those that compute, and none that reach files or the process."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import torch


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_TEXT = words(
    "Delete Float Int __contains__ __getitem__ __interpolate __upsample _assert_async _assert_scalar _convolution_mode "
    "_functional_assert_async _functional_assert_scalar _set_item add any capitalize center clear conv1d conv2d conv3d "
    "copy count device dict div div_ divide divide_ einsum endswith eq expandtabs fft_fft fft_fft2 fft_fftn fft_hfft "
    "fft_hfft2 fft_hfftn fft_ifft fft_ifft2 fft_ifftn fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2 fft_irfftn "
    "fft_rfft fft_rfft2 fft_rfftn find format ge gelu gelu_ gelu_backward get gt index index_reduce index_reduce_ "
    "isalnum isalpha isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper items join "
    "keys le len linalg_cond linalg_eigh linalg_eigvalsh linalg_lstsq linalg_matrix_norm linalg_norm linalg_qr "
    "linalg_svd linalg_svdvals list ljust lower lstrip lt meshgrid nanquantile ne ord pad pad_sequence partition "
    "percentFormat pop popitem quantile remove replace rfind rindex rjust rpartition rsplit rstrip scatter scatter_ "
    "scatter_reduce scatter_reduce_ searchsorted segment_reduce setdefault slice sort sorted split splitlines "
    "startswith stft strip swapcase title update upper values warn zfill"
)
"""Operators of `aten` that take a text and only compute with it (a mode, an equation, words of a message)."""

_WITHOUT_RESULT = words(
    "warn set_grad_enabled sym_constrain_range sym_constrain_range_for_size _assert_scalar _assert_async "
    "_assert_tensor_metadata"
)
"""Operators of `aten` that return nothing, change none of their arguments, and change nothing else that lasts."""

_PROCESS = words(
    "from_file save manual_seed seed initial_seed Generator to_here local_value owner owner_name is_owner "
    "confirmed_by_owner get_gradients record_stream set_data retain_grad"
)
"""Operators of `aten` that reach files, the state of the process, or other processes."""

_BOOKKEEPING = words(
    "CallFunction CallMethod Closure Constant ConstantChunk CreateObject DictConstruct DictIndex Enter EnumName "
    "EnumValue Exit GetAttr If IfThenElse ListConstruct ListUnpack Load Loop ModuleContainerIndex NumToTensor "
    "RaiseException ReductionSizes SetAttr Store StringIndex TracedAttr TracedFork TracedModuleForward TupleConstruct "
    "TupleIndex TupleSlice TupleUnpack Uninitialized abs data device dtype fork grad id index isinstance is_cpu "
    "is_cuda is_ipu is_maia is_meta is_mkldnn is_mps is_mtia is_nested is_quantized is_sparse is_sparse_csr is_vulkan "
    "is_xla is_xpu itemsize layout max min name nbytes rangelist requires_grad shape tolist type unchecked_cast "
    "unchecked_unwrap_optional"
)
"""What TorchScript's own namespace `prim` may do: control flow, containers, attributes of tensors."""

_NESTING = words(
    "cond while_loop map_impl scan associative_scan invoke_subgraph wrap wrap_with_autocast "
    "wrap_with_set_grad_enabled tag_activation_checkpoint"
)
"""Operators of exported programs that call graphs, which are walked as well."""

_COMPUTING = frozenset(("prims", "quantized", "quantized_decomposed", "torchvision", "builder"))
"""Namespaces of which nothing reaches outside of its arguments."""

_NUMBERS = words(
    "add and_ eq floordiv ge getitem gt invert le lshift lt mod mul ne neg not_ or_ pos pow rshift sub truediv xor"
)
_MATHS = words("ceil floor trunc sqrt pow")
_SYMBOLIC = re.compile(r"torch\.(sym_\w+|_sym_\w+|_check(_is_size|_value|_index|_tensor_all|_type|_not_implemented)?)")
"""What exported programs call to compute with sizes, besides operators: functions of Python and of torch."""

_EXPORTED = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.\w+)?")


def may_run(kind: str) -> bool:
    """Whether a program from a file may call `kind`, such as `aten::add`; what nobody knows it may not."""
    namespace, _, name = kind.partition("::")
    if namespace == "aten":
        return _computes(name)
    if namespace == "prim":
        return name in _BOOKKEEPING
    return namespace in _COMPUTING or (namespace == "higher_order" and name in _NESTING)


def may_run_exported(target: str) -> bool:
    """The same of a node's target as an exported program spells it, such as `torch.ops.aten.add.Tensor`."""
    if called := _EXPORTED.fullmatch(target):
        return may_run(f"{called[1]}::{called[2]}")
    module, _, name = target.partition(".")
    if module == "_operator":
        return name in _NUMBERS
    return (module == "math" and name in _MATHS) or _SYMBOLIC.fullmatch(target) is not None


@cache
def _computes(name: str) -> bool:
    """Whether an operator of `aten` is known, and neither its name nor what it takes or lacks speaks of more."""
    if name in _PROCESS:
        return False
    schemas: list[Any] = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    takes_text = any("str" in str(argument.type) for schema in schemas for argument in schema.arguments)
    silent = any(not schema.returns and not _writes(schema) for schema in schemas)
    return bool(schemas) and (not takes_text or name in _TEXT) and (not silent or name in _WITHOUT_RESULT)


def _writes(schema: Any) -> bool:
    """Whether an operator changes an argument, which is what it is called for."""
    return any(argument.alias_info is not None and argument.alias_info.is_write for argument in schema.arguments)
