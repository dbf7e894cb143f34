"""Protobuf text format as a tree: fields, values and blocks with their places, no schema.

Accepts what C++ protobuf accepts: ``#`` comments, either quote, adjacent strings, ``field: {``,
``< >`` blocks, ``[a, b]`` lists, ``,`` and ``;`` after a field, any line ending.
"""

from __future__ import annotations

import bisect
import re
from array import array
from dataclasses import dataclass, field

from sphereface.errors import SphereFaceError

__all__ = ["Block", "Entry", "Tree", "Value", "parse_tree"]

_TOKEN = re.compile(
    r"""(?:\s+|\#[^\n]*)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<number>-?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?)(?![\w.])
      |-\s*(?:inf|infinity|nan)\b)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<mark>[{}<>\[\]:;,])
    | (?P<bad>.)""",
    re.VERBOSE | re.ASCII,
)
_MAX_DEPTH = 64
# A layer has some 60; every one takes about a hundred bytes until the message is filled.
_MAX_TOKENS = 1_000_000
_CLOSING = {"{": "}", "<": ">"}


@dataclass(slots=True)
class Value:
    """A scalar as written: `kind` is "string", "number" or "word"; strings keep their quotes."""

    kind: str
    text: str
    offset: int


@dataclass(slots=True)
class Entry:
    """One ``name: value``, ``name: [values]`` or ``name { }``."""

    name: str
    offset: int
    values: list[Value | Block] = field(default_factory=list)


@dataclass(slots=True)
class Block:
    """The entries between a pair of braces, or of the whole text."""

    offset: int
    entries: list[Entry] = field(default_factory=list)

    def first(self, name: str) -> str:
        """Return the scalar `name` without quotes, or ``""``."""
        for entry in self.entries:
            if entry.name == name and entry.values and isinstance(entry.values[0], Value):
                return entry.values[0].text.strip("\"'")
        return ""


class Tree:
    """The parsed text and what is needed to name a place in it."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.root = Block(0)
        # Four bytes a line, however many lines a hostile text has.
        self._newlines = array("I", (match.start() for match in re.finditer("\n", text)))

    def line(self, offset: int) -> int:
        """Return the 1-based line of `offset`."""
        return bisect.bisect_left(self._newlines, offset) + 1

    def error(
        self, problem: str, offset: int, path: list[Entry], *, expected: str = "", fix: str = ""
    ) -> SphereFaceError:
        """Return the error for `problem`, naming the innermost layer among the entries `path`."""
        line = self.line(offset)
        column = offset - (self._newlines[line - 2] if line > 1 else -1)
        where = f"{self.source}:{line}:{column}"
        for entry in reversed(path):
            block = entry.values[-1] if entry.values else None
            if entry.name in ("layer", "layers") and isinstance(block, Block):
                name, kind = block.first("name"), block.first("type")
                if name or kind:
                    quoted = f' "{name}"' if name else ""
                    where += f": layer{quoted}" + (f" ({kind})" if kind else "")
                    break
        return SphereFaceError(problem, where=where, expected=expected, fix=fix)


def parse_tree(text: str, source: str) -> Tree:
    """Parse `text`; `source` names it in errors.

    Raises
    ------
    SphereFaceError
        The text is not in the format, a block or string is not closed, or it is far larger than
        that of any net.
    """
    parser = _Parser(Tree(text, source))
    parser.block(parser.tree.root, "")
    return parser.tree


class _Parser:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.path: list[Entry] = []
        self.position = self.count = 0
        self.kind = self.token = ""
        self.offset = 0
        self.advance()

    def advance(self) -> None:
        text = self.tree.text
        while match := _TOKEN.match(text, self.position):
            self.position = match.end()
            if match.lastgroup:
                self.kind, self.token = match.lastgroup, match[0]
                self.offset = match.start()
                if self.kind == "bad":
                    raise self.bad_token()
                self.count += 1
                if self.count > _MAX_TOKENS:
                    raise self.error(
                        f"more than {_MAX_TOKENS:,} names, values and marks", "the text of a net"
                    )
                return
        self.kind, self.token, self.offset = "end", "", len(text)

    def bad_token(self) -> SphereFaceError:
        if self.token in "\"'":
            return self.error("unterminated string", fix=f"close it with {self.token}")
        found = re.compile(r"[\w.+-]+|.").match(self.tree.text, self.offset)
        return self.error(f'unexpected "{found[0] if found else self.token}"')

    def error(self, problem: str, expected: str = "", fix: str = "") -> SphereFaceError:
        return self.tree.error(problem, self.offset, self.path, expected=expected, fix=fix)

    def found(self) -> str:
        return f"found {self.token}" if self.token else "the text ends here"

    def accept(self, mark: str) -> bool:
        if self.token != mark:
            return False
        self.advance()
        return True

    def block(self, block: Block, closing: str) -> None:
        while self.kind == "word":
            block.entries.append(self.entry_of(block))
        if self.kind == "end" and closing:
            raise self.unclosed(self.path[-1])
        if self.token != closing:
            raise self.error(self.found(), f"a field name{' or ' + closing if closing else ''}")

    def entry_of(self, parent: Block) -> Entry:
        entry = Entry(self.token, self.offset)
        self.path.append(entry)
        self.advance()
        colon = self.accept(":")
        if self.accept("["):
            while self.token != "]":
                entry.values.append(self.value())
                if not self.accept(",") and self.token != "]":
                    raise self.error(self.found(), '"," or "]"')
            self.advance()
        elif colon or self.token in _CLOSING:
            self.check_nesting(entry)
            entry.values.append(self.value())
        else:
            raise self.error(self.found(), f'":" or "{{" after "{entry.name}"')
        if self.token in (",", ";"):
            self.advance()
        self.path.pop()
        return entry

    def check_nesting(self, entry: Entry) -> None:
        """Catch a missing brace where the next layer starts, not at the end of the text."""
        if entry.name in ("layer", "layers") and self.token in _CLOSING:
            for outer in self.path[:-1]:
                if outer.name == entry.name:
                    raise self.unclosed(outer)

    def unclosed(self, opened: Entry) -> SphereFaceError:
        return self.error(
            f'block "{opened.name}" opened at line {self.tree.line(opened.offset)} is not closed',
            fix="add the missing }",
        )

    def value(self) -> Value | Block:
        value: Value | Block
        if self.token in _CLOSING and self.kind == "mark":
            if len(self.path) > _MAX_DEPTH:
                raise self.error(f"blocks are nested more than {_MAX_DEPTH} deep")
            closing = _CLOSING[self.token]
            value = Block(self.offset)
            self.path[-1].values.append(value)  # so that errors inside can name the layer
            self.advance()
            self.block(value, closing)
            self.path[-1].values.pop()
            self.advance()
            return value
        if self.kind not in ("string", "number", "word"):
            raise self.error(self.found(), f'a value for "{self.path[-1].name}"')
        value = Value(self.kind, self.token, self.offset)
        self.advance()
        if value.kind == "string" and self.kind == "string":
            pieces = [value.text[:-1]]
            while self.kind == "string":
                pieces.append(self.token[1:-1])
                self.advance()
            value.text = "".join([*pieces, value.text[0]])
        return value
