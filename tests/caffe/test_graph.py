from __future__ import annotations

from dataclasses import dataclass

import pytest

from sphereface.caffe.graph import Arity, at_least, build_graph, exactly
from sphereface.errors import ProblemsError, SphereFaceError
from sphereface.proto import text

ONE = exactly(1)


@dataclass
class Kind:
    """A layer type as far as the graph looks."""

    bottoms: Arity = ONE
    tops: Arity = ONE
    equal_counts: bool = False
    auto_tops: bool = False
    is_input: bool = False


KINDS = {
    "Input": Kind(exactly(0), at_least(1), is_input=True),
    "Unary": Kind(),
    "Sum": Kind(bottoms=at_least(2)),
    "Fork": Kind(tops=at_least(1)),
    "Each": Kind(at_least(1), at_least(1), equal_counts=True),
    "Loss": Kind(exactly(2), Arity(1, 2), auto_tops=True),
    "Sink": Kind(at_least(1), exactly(0)),
}


def layer(name: str, kind: str, bottoms: str = "", tops: str = "", extra: str = "") -> str:
    names = "".join(f' bottom: "{b}"' for b in bottoms.split())
    names += "".join(f' top: "{t}"' for t in tops.split())
    return f'layer {{ name: "{name}" type: "{kind}"{names} {extra} }}\n'


def graph(*layers: str, head: str = ""):
    net = text.parse(head + "".join(layers)).message
    return build_graph(net, lambda kind, where: KINDS[kind])


DATA = layer("data", "Input", "", "x t")


def test_in_place_tops_are_versions_of_a_name():
    """Readers before the in-place layer see the earlier value, readers after it the later."""
    net = graph(
        DATA,
        layer("conv", "Unary", "x", "a"),
        layer("early", "Unary", "a", "e"),
        layer("relu", "Unary", "a", "a"),
        layer("late", "Sum", "a e", "y"),
    )
    conv, early, relu, late = net.nodes[1:]
    assert early.bottoms == relu.bottoms == conv.tops
    assert late.bottoms == (relu.tops[0], early.tops[0])
    assert relu.tops != conv.tops
    assert net.blobs["a"] == relu.tops[0]
    assert [net.blob_names[slot] for slot in (*conv.tops, *relu.tops)] == ["a", "a"]


def test_inputs_and_outputs_in_caffes_order():
    """Inputs as in the file; outputs are the unread names, sorted, unread inputs too."""
    net = graph(
        layer("data", "Input", "", "z_in b_in a_in"),
        layer("one", "Unary", "b_in", "z"),
        layer("two", "Unary", "a_in", "B"),
        layer("three", "Unary", "a_in", "b"),
        layer("four", "Unary", "b", "b"),
    )
    assert list(net.inputs) == ["z_in", "b_in", "a_in"]
    assert list(net.outputs) == ["B", "b", "z", "z_in"]
    assert net.outputs["b"] == net.nodes[-1].tops[0]


def test_blobs_are_freed_after_their_last_reader():
    net = graph(
        DATA,
        layer("conv", "Unary", "x", "a"),
        layer("relu", "Unary", "a", "a"),
        layer("fork", "Fork", "a", "b c"),
        layer("sum", "Sum", "b a", "y"),
    )
    x, t = net.nodes[0].tops
    conv, relu = net.nodes[1].tops[0], net.nodes[2].tops[0]
    b, c = net.nodes[3].tops
    y = net.nodes[4].tops[0]
    assert net.frees({t, c, y}) == [(), (x,), (conv,), (), (relu, b)]
    assert net.frees({t, c, y, relu, x}) == [(), (), (conv,), (), (b,)]
    # Nothing reads c: it goes as soon as it is made.
    assert net.frees({t, y})[3] == (c,)


def test_a_loss_gets_an_unnamed_top():
    net = graph(DATA, layer("loss", "Loss", "x t"))
    assert net.blob_names == ["x", "t", ""]
    assert net.nodes[1].tops == (2,)
    assert not net.outputs


def test_a_sink_consumes():
    net = graph(DATA, layer("silence", "Sink", "x t"))
    assert net.nodes[1].tops == ()
    assert not net.outputs


@pytest.mark.parametrize(
    ("bottoms", "tops", "kind", "message"),
    [
        ("q", "y", "Unary", r'unknown bottom blob "q" at index 0'),
        ("X", "y", "Unary", r'did you mean "x"'),
        ("x", "t", "Unary", r'top blob "t" is produced by multiple sources'),
        ("x t", "t x", "Each", r'top blob "t" is produced by multiple sources'),
        ("x", "a a", "Fork", r'top blob "a" is produced by multiple sources'),
        ("x t", "y", "Unary", r'2 bottom blobs \("x", "t"\); expected 1 bottom blobs'),
        ("x", "y", "Sum", r"1 bottom blobs .* expected at least 2"),
        ("x", "", "Unary", r"0 top blobs \(none\); expected 1 top"),
        ("x t", "a b c", "Loss", r"expected 0 to 2 top blobs"),
        ("x t", "a", "Each", r"2 bottom and 1 top blobs; expected one top for each bottom"),
    ],
)
def test_connections_that_caffe_refuses(bottoms, tops, kind, message):
    with pytest.raises(SphereFaceError, match=rf'layer "l" \({kind}\): .*{message}'):
        graph(DATA, layer("l", kind, bottoms, tops))


def test_errors_name_the_place():
    net = text.parse(DATA + layer("l", "Unary", "q", "y")).message
    with pytest.raises(SphereFaceError, match=r"^place 1: unknown bottom"):
        build_graph(net, lambda kind, where: KINDS[kind], lambda index: f"place {index}")


def test_propagate_down():
    wish = "propagate_down: false propagate_down: true"
    net = graph(DATA, layer("l", "Sum", "x t", "y", wish), layer("m", "Unary", "y", "z"))
    assert net.nodes[1].detach == (True, False)
    assert net.nodes[2].detach == (False,)
    forced = graph(DATA, layer("l", "Sum", "x t", "y", wish), head="force_backward: true ")
    assert forced.nodes[1].detach == (False, False)
    with pytest.raises(SphereFaceError, match="1 propagate_down values for 2 bottom blobs"):
        graph(DATA, layer("l", "Sum", "x t", "y", "propagate_down: false"))


def test_all_problems_are_told_unknown_types_first():
    def kind(name, where):
        if name not in KINDS:
            raise SphereFaceError(f"no {name}", where=where)
        return KINDS[name]

    net = text.parse(
        DATA
        + layer("a", "Unary", "q", "a")
        + layer("b", "Sum", "q r", "b")
        + layer("c", "Strange", "x", "c")
        + layer("d", "Unary", "x", "d e")
        + layer("f", "Sum", "a b c d", "f")
        + layer("g", "Stranger", "z", "g")
    ).message
    earlier = SphereFaceError("odd")
    with pytest.raises(ProblemsError) as caught:
        build_graph(
            net, kind, source="net.prototxt", problems=[earlier], why_missing=lambda n: f"why {n}"
        )
    assert caught.value.where == "net.prototxt"
    assert [(error.problem, error.fix) for error in caught.value.problems] == [
        ("no Strange", ""),
        ("no Stranger", ""),
        ("odd", ""),
        ('unknown bottom blob "q" at index 0', "why q"),
        ('unknown bottom blob "q" at index 0', "why q"),
        ('unknown bottom blob "r" at index 1', "why r"),
        ('2 top blobs ("d", "e")', ""),
        ('unknown bottom blob "z" at index 0', "why z"),
    ]
    with pytest.raises(SphereFaceError, match="^odd$"):
        build_graph(text.parse(DATA).message, kind, problems=[earlier])
