"""Whole programs in MLIR's text: states, control flow, composites, functions, sparse weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Call = tuple[str, dict[str, Array]]
"""A function and its inputs."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program, the calls to make of it one after another, and the states that they share, zero at first."""

    name: str
    text: str
    calls: tuple[Call, ...]
    states: dict[str, Array] = field(default_factory=dict)


def _floats(*numbers: float) -> Array:
    return np.array(numbers, np.float32)


STATE = Program(
    name="state",
    text="""module { coreai.graph @main(%s: !coreai.handle<tensor<3xf32>> {coreai.name = "total"},
        %x: tensor<3xf32> {coreai.name = "x"})
        -> (!coreai.token {coreai.name = "total"}, tensor<3xf32> {coreai.name = "y"}) {
      %t = coreai.create_token : !coreai.token
      %old, %t1 = coreai.read_handle %s, %t : (!coreai.handle<tensor<3xf32>>, !coreai.token)
        -> (tensor<3xf32>, !coreai.token)
      %new = coreai.add %old, %x : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
      %t2 = coreai.write_handle %s, %new, %t1 : (!coreai.handle<tensor<3xf32>>, tensor<3xf32>, !coreai.token)
        -> !coreai.token
      %twice = coreai.add %new, %old : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
      coreai.output %t2, %twice : !coreai.token, tensor<3xf32> } }""",
    calls=tuple(("main", {"x": _floats(1, 2, number)}) for number in range(3)),
    states={"total": np.zeros(3, np.float32)},
)

COUNTER = Program(
    name="counter",
    text="""module { coreai.graph @main(%s: !coreai.handle<tensor<si32>> {coreai.name = "step"},
        %x: tensor<si32> {coreai.name = "x"})
        -> (!coreai.token {coreai.name = "step"}, tensor<si32> {coreai.name = "y"}) {
      %t = coreai.create_token : !coreai.token
      %old, %t1 = coreai.read_handle %s, %t : (!coreai.handle<tensor<si32>>, !coreai.token)
        -> (tensor<si32>, !coreai.token)
      %new = coreai.add %old, %x : (tensor<si32>, tensor<si32>) -> tensor<si32>
      %t2 = coreai.write_handle %s, %new, %t1 : (!coreai.handle<tensor<si32>>, tensor<si32>, !coreai.token)
        -> !coreai.token
      coreai.output %t2, %new : !coreai.token, tensor<si32> } }""",
    calls=tuple(("main", {"x": np.array(number, np.int32)}) for number in (3, 16777217)),
    states={"step": np.array(0, np.int32)},
)
"""An integer that a float would not hold, of rank 0."""

CHOICE = Program(
    name="choice",
    text="""module { coreai.graph @main(%p: tensor<i1> {coreai.name = "p"}, %x: tensor<2xf32> {coreai.name = "x"})
        -> (tensor<2xf32> {coreai.name = "y"}) {
      %two = coreai.constant dense<2.0> : tensor<2xf32>
      %r = coreai.if %p {
        %a = coreai.mul %x, %two : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
        coreai.yield %a : tensor<2xf32>
      } else {
        coreai.yield %x : tensor<2xf32>
      } : tensor<i1> -> tensor<2xf32>
      coreai.output %r : tensor<2xf32> } }""",
    calls=tuple(("main", {"p": np.array(flag), "x": _floats(1, -3)}) for flag in (True, False)),
)

LOOP = Program(
    name="loop",
    text="""module { coreai.graph @main(%n: tensor<si32> {coreai.name = "n"}, %x: tensor<2xf32> {coreai.name = "x"})
        -> (tensor<2xf32> {coreai.name = "y"}, tensor<si32> {coreai.name = "count"}) {
      %zero = coreai.constant dense<0> : tensor<si32>
      %one = coreai.constant dense<1> : tensor<si32>
      %r:2 = coreai.while %zero, %x {
      ^bb0(%i: tensor<si32>, %v: tensor<2xf32>):
        %on = coreai.greater %n, %i : (tensor<si32>, tensor<si32>) -> tensor<i1>
        coreai.condition %on, %i, %v : (tensor<i1>, tensor<si32>, tensor<2xf32>)
      } do {
      ^bb0(%i: tensor<si32>, %v: tensor<2xf32>):
        %next = coreai.add %i, %one : (tensor<si32>, tensor<si32>) -> tensor<si32>
        %twice = coreai.add %v, %v : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
        coreai.yield %next, %twice : tensor<si32>, tensor<2xf32>
      } : (tensor<si32>, tensor<2xf32>) -> (tensor<si32>, tensor<2xf32>)
      coreai.output %r#1, %r#0 : tensor<2xf32>, tensor<si32> } }""",
    calls=tuple(("main", {"n": np.array(count, np.int32), "x": _floats(1, -3)}) for count in (0, 1, 5)),
)

SCATTER = Program(
    name="scatter",
    text="""module { coreai.graph @main(%x: tensor<3x2xf32> {coreai.name = "x"},
        %i: tensor<2x1xsi32> {coreai.name = "i"},
        %u: tensor<2x2xf32> {coreai.name = "u"}) -> (tensor<3x2xf32> {coreai.name = "y"}) {
      %r = coreai.scatter_nd %x with %u at %i {
      ^bb0(%old: tensor<f32>, %new: tensor<f32>):
        coreai.yield %new : tensor<f32>
      } : (tensor<3x2xf32>, tensor<2x2xf32>, tensor<2x1xsi32>) to tensor<3x2xf32>
      coreai.output %r : tensor<3x2xf32> } }""",
    calls=(
        (
            "main",
            {"x": np.zeros((3, 2), np.float32), "i": np.array([[2], [-3]], np.int32), "u": np.ones((2, 2), np.float32)},
        ),
    ),
)

COMPOSITE = Program(
    name="composite",
    text="""module {
      coreai.graph private noinline @scaled_abc(%a: tensor<2xf32> {coreai.name = "a"},
          %b: tensor<2xf32> {coreai.name = "b"}) -> tensor<2xf32> {
        %r = coreai.mul %a, %b : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
        coreai.output %r : tensor<2xf32>
      }
      coreai.graph private noinline @outer_abc(%a: tensor<2xf32> {coreai.name = "a"}) -> tensor<2xf32> {
        %r = coreai.invoke @scaled_abc(%a, %a) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
        coreai.output %r : tensor<2xf32>
      }
      coreai.graph @main(%x: tensor<2xf32> {coreai.name = "x"})
          -> (tensor<2xf32> {coreai.name = "x_again"}, tensor<2xf32> {coreai.name = "y"},
              tensor<2xf32> {coreai.name = "z"}) {
        %a = coreai.invoke @outer_abc(%x) : (tensor<2xf32>) -> tensor<2xf32>
        %b = coreai.invoke @scaled_abc(%a, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
        coreai.output %x, %b, %b : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>
      }
      coreai.graph @other(%x: tensor<?x2xf32> {coreai.name = "x"}) -> (tensor<?x2xf32> {coreai.name = "y"}) {
        %r = coreai.add %x, %x : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
        coreai.output %r : tensor<?x2xf32>
      } }""",
    calls=(
        ("main", {"x": _floats(3, -2)}),
        ("other", {"x": np.ones((1, 2), np.float32)}),
        ("other", {"x": np.ones((4, 2), np.float32)}),
    ),
)

_SPARSE = "tensor<2x3x{type}, #coreai.sparse_tensor_encoding<bitmask, numNonZero = 3, posWidth = 1, crdWidth = 1>>"
SPARSE = Program(
    name="sparse",
    text="""module { coreai.graph @main(%x: tensor<2x3xf32> {coreai.name = "x"})
        -> (tensor<2x3xf32> {coreai.name = "plain"}, tensor<2x3xf32> {coreai.name = "palette"}) {
      %values = coreai.constant dense<[10.0, 20.0, 30.0]> : tensor<3xf32>
      %mask = coreai.constant dense<[[0, 1, 0], [1, 0, 1]]> : tensor<2x3xui1>
      %indices = coreai.constant dense<[0, 3, 1]> : tensor<3xui2>
      %lut = coreai.constant dense<[[[[1.5], [2.5], [3.5], [4.5]]]]> : tensor<1x1x4x1xf32>
      %axis = coreai.constant dense<0> : tensor<si16>
      %s = coreai.build_sparse_with_bitmask %values, %mask : (tensor<3xf32>, tensor<2x3xui1>) -> FLOATS
      %d = coreai.sparse_with_bitmask_to_dense %s : FLOATS -> tensor<2x3xf32>
      %si = coreai.build_sparse_with_bitmask %indices, %mask : (tensor<3xui2>, tensor<2x3xui1>) -> INDICES
      %sl = coreai.lut_to_sparse_with_bitmask %si, %lut, %axis : (INDICES, tensor<1x1x4x1xf32>, tensor<si16>) -> FLOATS
      %dl = coreai.sparse_with_bitmask_to_dense %sl : FLOATS -> tensor<2x3xf32>
      %a = coreai.add %x, %d : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
      %b = coreai.add %x, %dl : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
      coreai.output %a, %b : tensor<2x3xf32>, tensor<2x3xf32> } }""".replace(
        "FLOATS", _SPARSE.format(type="f32")
    ).replace("INDICES", _SPARSE.format(type="ui2")),
    calls=(("main", {"x": np.zeros((2, 3), np.float32)}),),
)

COMPLEX = Program(
    name="complex",
    text="""module { coreai.graph @main(%x: tensor<2xf32> {coreai.name = "x"}, %y: tensor<2xf32> {coreai.name = "y"})
        -> (tensor<2xf32> {coreai.name = "real"}, tensor<2xf32> {coreai.name = "imaginary"}) {
      %z = coreai.create_complex %x, %y : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xcomplex<f32>>
      %s = coreai.mul %z, %z : (tensor<2xcomplex<f32>>, tensor<2xcomplex<f32>>) -> tensor<2xcomplex<f32>>
      %r = coreai.real_part %s : (tensor<2xcomplex<f32>>) -> tensor<2xf32>
      %i = coreai.imaginary_part %s : (tensor<2xcomplex<f32>>) -> tensor<2xf32>
      coreai.output %r, %i : tensor<2xf32>, tensor<2xf32> } }""",
    calls=(("main", {"x": _floats(1, 2), "y": _floats(-3, 0.5)}),),
)

PROGRAMS = (STATE, COUNTER, CHOICE, LOOP, SCATTER, COMPOSITE, SPARSE, COMPLEX)

_WEIGHT = np.random.default_rng(1).standard_normal((8, 3, 3, 3)).astype(np.float16)
_CODES = np.random.default_rng(2).integers(0, 256, 8 * 4 // 2, np.uint8)
_ALIGNMENT = "10000000"


def _resource(array: Array) -> str:
    return f'"0x{_ALIGNMENT}{array.tobytes().hex().upper()}"'


SAMPLE = Program(
    name="sample",
    text="""module {
      coreai.graph private noinline @scaled_abc(%a: tensor<1x8x1x1xf16> {coreai.name = "a"},
          %b: tensor<f16> {coreai.name = "b"}) -> tensor<1x8x1x1xf16> {
        %r = coreai.decomposable.broadcasting_mul %a, %b : (tensor<1x8x1x1xf16>, tensor<f16>) -> tensor<1x8x1x1xf16>
        coreai.output %r : tensor<1x8x1x1xf16>
      }
      coreai.graph @main(%s: !coreai.handle<tensor<1x4xf16>> {coreai.name = "total"},
          %x: tensor<1x3x8x8xf16> {coreai.name = "image"}, %p: tensor<i1> {coreai.name = "flag"})
          -> (!coreai.token {coreai.name = "total"}, tensor<1x4xf16> {coreai.name = "scores"}) {
        %w = coreai.constant dense_resource<conv> : tensor<8x3x3x3xf16>
        %codes = coreai.constant dense_resource<codes> : tensor<8x4xui4>
        %scale = coreai.constant dense<[[0.5, 0.25, 1.0, 2.0]]> : tensor<1x4xf16>
        %shift = coreai.constant dense<8> : tensor<1x4xui4>
        %zero = coreai.constant dense<0.0> : tensor<1x4xf16>
        %one = coreai.constant dense<1> : tensor<2xui32>
        %groups = coreai.constant dense<1> : tensor<ui32>
        %axes = coreai.constant dense<[2, 3]> : tensor<2xsi32>
        %flat = coreai.constant dense<[1, 8]> : tensor<2xui32>
        %half = coreai.constant dense<0.5> : tensor<f16>
        %c = coreai.conv2d %x, %w, %one, %one, %groups
          : (tensor<1x3x8x8xf16>, tensor<8x3x3x3xf16>, tensor<2xui32>, tensor<2xui32>, tensor<ui32>)
          -> tensor<1x8x6x6xf16>
        %r = coreai.relu %c : (tensor<1x8x6x6xf16>) -> tensor<1x8x6x6xf16>
        %m = coreai.reduce_mean %r, %axes : (tensor<1x8x6x6xf16>, tensor<2xsi32>) -> tensor<1x8x1x1xf16>
        %i = coreai.invoke @scaled_abc(%m, %half) : (tensor<1x8x1x1xf16>, tensor<f16>) -> tensor<1x8x1x1xf16>
        %f = coreai.reshape %i, %flat : (tensor<1x8x1x1xf16>, tensor<2xui32>) -> tensor<1x8xf16>
        %d = coreai.blockwise_shift_scale %codes, %scale, %shift, %zero
          : (tensor<8x4xui4>, tensor<1x4xf16>, tensor<1x4xui4>, tensor<1x4xf16>) -> tensor<8x4xf16>
        %l = coreai.decomposable.broadcasting_batch_matmul %f, %d
          : (tensor<1x8xf16>, tensor<8x4xf16>) -> tensor<1x4xf16>
        %t = coreai.create_token : !coreai.token
        %old, %t1 = coreai.read_handle %s, %t : (!coreai.handle<tensor<1x4xf16>>, !coreai.token)
          -> (tensor<1x4xf16>, !coreai.token)
        %g = coreai.if %p {
          %a = coreai.add %l, %l : (tensor<1x4xf16>, tensor<1x4xf16>) -> tensor<1x4xf16>
          coreai.yield %a : tensor<1x4xf16>
        } else {
          coreai.yield %l : tensor<1x4xf16>
        } : tensor<i1> -> tensor<1x4xf16>
        %y = coreai.add %g, %old : (tensor<1x4xf16>, tensor<1x4xf16>) -> tensor<1x4xf16>
        %t2 = coreai.write_handle %s, %y, %t1 : (!coreai.handle<tensor<1x4xf16>>, tensor<1x4xf16>, !coreai.token)
          -> !coreai.token
        coreai.output %t2, %y : !coreai.token, tensor<1x4xf16>
      }
      coreai.graph @twice(%x: tensor<?x2xf32> {coreai.name = "x"}) -> (tensor<?x2xf32> {coreai.name = "y"}) {
        %r = coreai.add %x, %x : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
        coreai.output %r : tensor<?x2xf32>
      } }
    {-# dialect_resources: { builtin: { conv: CONV, codes: CODES } } #-}""".replace("CONV", _resource(_WEIGHT)).replace(
        "CODES", _resource(_CODES)
    ),
    calls=tuple(
        ("main", {"image": np.random.default_rng(3).random((1, 3, 8, 8)).astype(np.float16), "flag": np.array(flag)})
        for flag in (True, True, False)
    ),
    states={"total": np.zeros((1, 4), np.float16)},
)
"""A bit of everything; it lies beside the tests as an asset, for machines without Apple's packages."""

PROGRAMS = (*PROGRAMS, SAMPLE)
