"""MLIR's bytecode container, version 6: sections, strings, tables of types and attributes, and the tree of operations.

Written after MLIR's "BytecodeFormat" document and lib/Bytecode/Reader/BytecodeReader.cpp. What types and attributes
mean is the dialect's affair (see dialect.py); here they are spans of bytes with a number.
"""

from __future__ import annotations

from dataclasses import dataclass

from coreml_runtime.coreai.cursor import Cursor, decode
from coreml_runtime.errors import ModelError, UnsupportedError
from coreml_runtime.mapping import Buffer

MAGIC = b"ML\xefR"
_VERSIONS = (5, 6)
_STRINGS, _DIALECTS, _TABLES, _OFFSETS, _OPERATIONS, _RESOURCES, _RESOURCE_OFFSETS, _, _PROPERTIES = range(9)
_DEEPEST = 64
_HAS_ATTRIBUTES, _HAS_RESULTS, _HAS_OPERANDS, _HAS_SUCCESSORS, _HAS_REGIONS, _HAS_USE_ORDER, _HAS_PROPERTIES = (
    1 << bit for bit in range(7)
)

Span = tuple[int, int]
"""Where bytes begin and end in the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """What an operation or a block defines; `type` is a place in the table of types. Equal only to itself."""

    number: int
    type: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RawBlock:
    """The one block of a region."""

    arguments: tuple[Value, ...]
    operations: tuple[RawOperation, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RawOperation:
    """An operation as stored. `properties` are its attributes in the order that the dialect fixes."""

    name: str
    properties: Span | None
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    regions: tuple[RawBlock, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """A named blob of the file."""

    name: str
    span: Span


@dataclass(frozen=True, kw_only=True)
class Container:
    """A parsed file. `types` and `attributes` are spans that the dialect decodes."""

    data: Buffer
    producer: str
    strings: tuple[str, ...]
    dialect_version: int | None
    types: tuple[Span, ...]
    attributes: tuple[Span, ...]
    resources: tuple[Resource, ...]
    root: RawBlock


def read_container(data: Buffer, dialect: str, opened: frozenset[str]) -> Container:
    """Parse a file whose every operation belongs to `dialect`.

    Regions that are isolated are parsed for the operations named in `opened`; others are skipped: they hold what an
    operator means in terms of simpler ones.
    """
    cursor = Cursor(data, 0, len(data))
    if cursor.take(4) != MAGIC:
        raise ModelError("the program does not begin as MLIR bytecode does")
    version = cursor.integer()
    if version not in _VERSIONS:
        raise UnsupportedError(
            f"MLIR bytecode of version {version}; versions {_VERSIONS[0]} to {_VERSIONS[-1]} are read"
        )
    producer = cursor.text()
    sections: dict[int, Span] = {}
    while cursor.left:
        number, span = _section(cursor)
        if sections.setdefault(number, span) != span:
            raise ModelError(f"section {number} occurs twice")
    missing = [each for each in (_STRINGS, _DIALECTS, _TABLES, _OFFSETS, _OPERATIONS) if each not in sections]
    if missing:
        raise ModelError(f"the program lacks its sections {missing}")
    strings = _read_strings(Cursor(data, *sections[_STRINGS]))
    names, dialect_version = _read_dialect(Cursor(data, *sections[_DIALECTS]), strings, dialect)
    attributes, types = _read_tables(Cursor(data, *sections[_OFFSETS]), sections[_TABLES])
    properties = _read_properties(Cursor(data, *sections[_PROPERTIES])) if _PROPERTIES in sections else ()
    reader = _OperationReader(names, len(types), len(attributes), properties, opened)
    return Container(
        data=data,
        producer=producer,
        strings=strings,
        dialect_version=dialect_version,
        types=types,
        attributes=attributes,
        resources=_read_resources(data, sections, strings),
        root=reader.root(Cursor(data, *sections[_OPERATIONS])),
    )


def _section(cursor: Cursor) -> tuple[int, Span]:
    """Number and span of the next section; an aligned one begins after padding."""
    number = cursor.byte()
    size = cursor.integer()
    if number & 0x80:
        alignment = cursor.integer()
        if alignment not in _ALIGNMENTS:
            raise ModelError(f"a section is aligned to {alignment} bytes")
        cursor.skip(-cursor.position % alignment)
    begin = cursor.skip(size)
    return number & 0x7F, (begin, begin + size)


_ALIGNMENTS = frozenset(1 << power for power in range(17))


def _read_strings(cursor: Cursor) -> tuple[str, ...]:
    """All texts: their sizes in reverse order, then the texts, each with a zero at its end."""
    sizes = [cursor.integer() for _ in range(cursor.count())]
    return tuple(decode(cursor.take(size)[:-1]) for size in reversed(sizes))


def _read_dialect(cursor: Cursor, strings: tuple[str, ...], dialect: str) -> tuple[tuple[str, ...], int | None]:
    """Names of the operations that occur, without their dialect, and the dialect's version."""
    version = None
    for _ in range(cursor.count()):
        place, has_version = cursor.flagged()
        found = strings[place] if place < len(strings) else f"string {place}"
        if has_version:
            _, span = _section(cursor)
            version = Cursor(cursor.data, *span).integer()
        if found != dialect:
            raise UnsupportedError(f"the program uses the dialect {found!r}; {dialect!r} is read")
    cursor.integer()  # how many names there are in all
    names = []
    while cursor.left:
        cursor.integer()  # the dialect: there is one
        for _ in range(cursor.count()):
            place, _ = cursor.flagged()
            if place >= len(strings):
                raise ModelError(f"the name of an operation is text {place}, there are {len(strings)}")
            names.append(strings[place])
    return tuple(names), version


def _read_tables(cursor: Cursor, table: Span) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Spans of the attributes and of the types: sizes in groups by dialect, laid end to end."""
    attributes, types = cursor.integer(), cursor.integer()
    spans: list[Span] = []
    begin, limit = table
    while cursor.left:
        cursor.integer()  # the dialect: there is one
        for _ in range(cursor.count()):
            size, custom = cursor.flagged()
            if not custom:
                raise UnsupportedError("the program holds types or attributes as text")
            if size > limit - begin:
                raise ModelError(f"a type or attribute of {size} bytes, {limit - begin} are left")
            spans.append((begin, begin + size))
            begin += size
    if len(spans) != attributes + types:
        raise ModelError(f"{attributes} attributes and {types} types are announced, {len(spans)} are there")
    return tuple(spans[:attributes]), tuple(spans[attributes:])


def _read_properties(cursor: Cursor) -> tuple[Span, ...]:
    spans = []
    for _ in range(cursor.count()):
        size = cursor.integer()
        begin = cursor.skip(size)
        spans.append((begin, begin + size))
    return tuple(spans)


def _read_resources(data: Buffer, sections: dict[int, Span], strings: tuple[str, ...]) -> tuple[Resource, ...]:
    """The blobs: keys and sizes in one section, the bytes in another, each after its alignment and size."""
    if _RESOURCE_OFFSETS not in sections or _RESOURCES not in sections:
        return ()
    offsets, content = Cursor(data, *sections[_RESOURCE_OFFSETS]), Cursor(data, *sections[_RESOURCES])
    if offsets.integer():
        raise UnsupportedError("the program holds resources that belong to no dialect")
    found = []
    while offsets.left:
        offsets.integer()  # the dialect: there is one
        for _ in range(offsets.count()):
            name = strings[offsets.index(len(strings), "text")]
            size, kind = offsets.integer(), offsets.byte()
            begin = content.skip(size)
            if kind == 0:
                found.append(Resource(name=name, span=_blob(Cursor(data, begin, begin + size))))
            else:
                found.append(Resource(name=name, span=(begin, begin + size)))
    return tuple(found)


def _blob(cursor: Cursor) -> Span:
    alignment, size = cursor.integer(), cursor.integer()
    if alignment not in _ALIGNMENTS:
        raise ModelError(f"a resource is aligned to {alignment} bytes")
    cursor.skip(-cursor.position % alignment)
    begin = cursor.skip(size)
    return begin, begin + size


class _OperationReader:
    """Parses operations. Values are numbered within the regions that can see each other."""

    def __init__(
        self, names: tuple[str, ...], types: int, attributes: int, properties: tuple[Span, ...], opened: frozenset[str]
    ) -> None:
        """Sizes of the tables that operations refer to."""
        self._names, self._types, self._attributes, self._properties = names, types, attributes, properties
        self._opened = opened
        self._defined = 0

    def root(self, cursor: Cursor) -> RawBlock:
        """The file's outermost operations."""
        count, has_arguments = cursor.flagged()
        if has_arguments or count > cursor.left:
            raise ModelError(f"the program announces {count} outermost operations")
        return RawBlock(arguments=(), operations=tuple(self._operation(cursor, _Scope(), 0) for _ in range(count)))

    def _operation(self, cursor: Cursor, scope: _Scope, depth: int) -> RawOperation:
        name = self._names[cursor.index(len(self._names), "operation name")]
        mask = cursor.byte()
        cursor.integer()  # where it comes from
        if mask & _HAS_SUCCESSORS:
            raise UnsupportedError(f"{name}: jumps are not read")
        if mask & _HAS_ATTRIBUTES:
            cursor.index(self._attributes, "attribute")
        properties = None
        if mask & _HAS_PROPERTIES:
            properties = self._properties[cursor.index(len(self._properties), "properties")]
        types = [cursor.index(self._types, "type") for _ in range(cursor.count())] if mask & _HAS_RESULTS else []
        operands: tuple[Value, ...] = ()
        if mask & _HAS_OPERANDS:
            operands = tuple(scope.find(cursor.integer()) for _ in range(cursor.count()))
        results = tuple(self._define(type_, scope) for type_ in types)
        if mask & _HAS_USE_ORDER:
            _skip_use_order(cursor, len(types))
        regions = self._regions(cursor, name, scope, depth) if mask & _HAS_REGIONS else ()
        return RawOperation(name=name, properties=properties, operands=operands, results=results, regions=regions)

    def _define(self, type_: int, scope: _Scope) -> Value:
        self._defined += 1
        value = Value(number=self._defined, type=type_)
        scope.add(value)
        return value

    def _regions(self, cursor: Cursor, name: str, scope: _Scope, depth: int) -> tuple[RawBlock, ...]:
        if depth > _DEEPEST:
            raise ModelError(f"operations are nested more than {_DEEPEST} deep")
        count, isolated = cursor.flagged()
        if count > cursor.left:
            raise ModelError(f"{name}: {count} regions are announced")
        regions = []
        for _ in range(count):
            if not isolated:
                regions.append(self._region(cursor, name, scope, depth))
                continue
            number, span = _section(cursor)
            if number != _OPERATIONS:
                raise ModelError(f"{name}: a region is a section of kind {number}")
            if name in self._opened:
                regions.append(self._region(Cursor(cursor.data, *span), name, _Scope(), depth))
        return tuple(regions)

    def _region(self, cursor: Cursor, name: str, scope: _Scope, depth: int) -> RawBlock:
        blocks = cursor.integer()
        if blocks == 0:
            return RawBlock(arguments=(), operations=())
        if blocks > 1:
            raise UnsupportedError(f"{name}: a region of {blocks} blocks")
        outer = scope.enter(cursor.count() if cursor.left else 0)
        count, has_arguments = cursor.flagged()
        if count > cursor.left:
            raise ModelError(f"{name}: {count} operations are announced, {cursor.left} bytes are left")
        arguments: list[Value] = []
        if has_arguments:
            for _ in range(cursor.count()):
                type_, has_location = cursor.flagged()
                if type_ >= self._types:
                    raise ModelError(f"type {type_} is used, there are {self._types}")
                if has_location:
                    cursor.integer()
                arguments.append(self._define(type_, scope))
            if cursor.byte():
                _skip_use_order(cursor, len(arguments))
        operations = tuple(self._operation(cursor, scope, depth + 1) for _ in range(count))
        scope.leave(outer)
        return RawBlock(arguments=tuple(arguments), operations=operations)


def _skip_use_order(cursor: Cursor, values: int) -> None:
    """Pass the order in which MLIR lists the uses of `values` values: nothing that is computed depends on it."""
    for _ in range(cursor.count() if values > 1 else 1):
        if values > 1:
            cursor.integer()
        entries, _ = cursor.flagged()
        for _ in range(min(entries, cursor.left + 1)):
            cursor.integer()


class _Scope:
    """The values that operations can refer to by number: those of the region and of those around it."""

    def __init__(self) -> None:
        """Nothing is defined."""
        self._values: list[Value | None] = []
        self._next = 0

    def enter(self, size: int) -> tuple[int, int]:
        """Make room for the values of a nested region; returns what `leave` takes."""
        outer = (len(self._values), self._next)
        self._next = len(self._values)
        self._values += [None] * size
        return outer

    def leave(self, outer: tuple[int, int]) -> None:
        """Forget the values of the nested region."""
        size, self._next = outer
        del self._values[size:]

    def add(self, value: Value) -> None:
        """The next value of the region."""
        if self._next >= len(self._values):
            raise ModelError("a region defines more values than it announces")
        self._values[self._next] = value
        self._next += 1

    def find(self, place: int) -> Value:
        """A value that was defined before."""
        value = self._values[place] if place < len(self._values) else None
        if value is None:
            raise ModelError(f"value {place} is used before it is defined")
        return value
