from __future__ import annotations

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto.declaration import parse_declaration, resolve_types


def test_messages_enums_and_options():
    file = parse_declaration(
        """syntax = "proto2"; package demo;
        enum Top { A = 0; B = -1; }
        /* a comment
           of two lines */
        message Outer {
          message Inner { required bytes raw = 1; }
          enum E { X = 0x10; }
          optional Inner inner = 1;
          repeated E e = 2 [packed = true, deprecated = true];
          optional Top top = 3 [default = B];
          optional float f = 4 [default = -1e-05];
        }"""
    )
    resolve_types(file.message_type, file)
    (outer,) = file.message_type
    assert (file.package, file.enum_type[0].value[1].number) == ("demo", -1)
    assert outer.enum_type[0].value[0].number == 16
    assert [f.type_name for f in outer.field] == [
        ".demo.Outer.Inner",
        ".demo.Outer.E",
        ".demo.Top",
        "",
    ]
    assert outer.field[1].options.packed
    assert [f.default_value for f in outer.field] == ["", "", "B", "-1e-05"]
    assert outer.nested_type[0].field[0].label == outer.field[0].LABEL_REQUIRED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("message A {\n optional int32 x 1; }", 'my:2: found "1"; expected "="'),
        ("message A {\n int32 x = 1; }", 'my:2: found "int32"; expected "optional", "repeated"'),
        ("message A {", 'my:1: the text ends here; expected "optional"'),
        ("message A { optional int32 x = 1 [default =", "my:1: the text ends here; expected"),
        ("message A { } ?", 'my:1: unexpected character "?"'),
        ("service A { }", 'my:1: found "service"; expected "message" or "enum"'),
        ("message A { optional int32 x = y; }", 'my:1: found "y"; expected a whole number'),
        ("message A { optional int32 x = 1 [lazy = true]; }", 'my:1: unknown option "lazy"'),
        ("message A { optional float x = 1 [default = z]; }", 'my:1: found "z"; expected a num'),
    ],
)
def test_errors_give_the_line(text, message):
    with pytest.raises(SphereFaceError) as error:
        parse_declaration(text, "my")
    assert str(error.value).startswith(message)
