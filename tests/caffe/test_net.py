from __future__ import annotations

import gc
import re
import weakref

import pytest
import torch
from torch import nn

from sphereface.caffe import load
from sphereface.errors import ProblemsError, SphereFaceError

DEPLOY = """
name: "small"
input: "data" input_dim: 2 input_dim: 3 input_dim: 12 input_dim: 10
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "PReLU" bottom: "conv" top: "conv" }
layer { name: "conv2" type: "Convolution" bottom: "conv" top: "conv2"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "conv2" top: "sum" }
layer { name: "pool" type: "Pooling" bottom: "sum" top: "pool"
  pooling_param { kernel_size: 2 stride: 2 } }
"""
FC = """
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""
TRAIN = (
    DEPLOY.replace(
        'input: "data" input_dim: 2 input_dim: 3 input_dim: 12 input_dim: 10',
        'layer { name: "data" type: "MemoryData" top: "data" top: "lambda" '
        "memory_data_param { batch_size: 2 channels: 3 height: 12 width: 10 } }",
    )
    + FC
    + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "lambda" top: "loss" }'
)


class ByHand(nn.Module):
    """DEPLOY and FC as one would write them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.PReLU(4)
        self.conv2, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4 * 6 * 5, 5)

    def forward(self, x):
        x = self.relu(self.conv(x))
        x = nn.functional.max_pool2d(x + self.conv2(x), 2)
        return self.fc(x.flatten(1))


@pytest.fixture
def net():
    return load(DEPLOY + FC, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def x():
    return torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(2))


def test_it_is_the_module_one_would_write(net, x):
    by_hand = ByHand()
    assert [key for key, _ in by_hand.named_parameters()] == list(net.state_dict())
    by_hand.load_state_dict(net.state_dict())
    found = net(x)
    assert list(found) == ["fc"]
    torch.testing.assert_close(found["fc"], by_hand(x))
    found["fc"].square().sum().backward()
    by_hand(x).square().sum().backward()
    for ours, theirs in zip(net.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_inputs_by_position_keyword_and_dict(net, x):
    expected = net(x)["fc"]
    assert torch.equal(net(data=x)["fc"], expected)
    assert torch.equal(net({"data": x})["fc"], expected)
    train = load(TRAIN, phase="TRAIN")
    label = torch.tensor([1.0, 4.0])
    loss = train({"data": x, "lambda": label})["loss"]
    assert torch.equal(train(x, label)["loss"], loss)
    assert torch.equal(train({"lambda": label}, data=x)["loss"], loss)


def test_blobs_on_request(net, x):
    found = net(x, blobs=["conv", "pool", "data"])
    assert list(found) == ["fc", "conv", "pool", "data"]
    expected = nn.functional.prelu(net.layer("conv")(x), net.layer("relu").weight)
    torch.testing.assert_close(found["conv"], expected)  # the last version of an in-place name
    assert found["data"] is x
    with pytest.raises(SphereFaceError, match='no blob "pol"; did you mean "pool"'):
        net(x, blobs=["pol"])


def test_blobs_are_freed_as_the_net_runs(net, x):
    """When a layer runs, only what a later layer reads is alive."""
    alive: dict[str, set[str]] = {}
    made: dict[str, weakref.ref] = {}

    def before(layer, bottoms):
        gc.collect()
        alive[layer.name] = {name for name, tensor in made.items() if tensor() is not None}

    def after(layer, bottoms, top):
        made[layer.name] = weakref.ref(top)

    for layer in net.layers:
        layer.register_forward_pre_hook(before)
        layer.register_forward_hook(after)
    with torch.no_grad():
        net(x)
    assert alive == {
        "conv": set(),
        "relu": {"conv"},
        "conv2": {"relu"},
        "sum": {"relu", "conv2"},
        "pool": {"sum"},
        "fc": {"pool"},
    }


def test_other_sizes_at_call_time():
    net = load(DEPLOY)
    for shape, pooled in (((1, 3, 20, 8), (1, 4, 10, 4)), ((5, 3, 7, 7), (5, 4, 4, 4))):
        assert tuple(net(torch.zeros(shape))["pool"].shape) == pooled
        assert net.infer_shapes({"data": shape})[net.graph.blobs["pool"]] == pooled
    assert net.blob_shapes["pool"] == (2, 4, 6, 5)


def test_labels_follow_the_batch_of_the_images():
    net = load(TRAIN, phase="TRAIN")
    shapes = net.infer_shapes({"data": (7, 3, 12, 10)})
    assert shapes[net.graph.blobs["lambda"]] == (7,)
    assert net.infer_shapes({})[net.graph.blobs["fc"]] == (2, 5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4, 12, 10), r'prototxt:4: layer "conv" .*expected 3 channels on axis 1'),
        ((2, 3, 12), r'layer "conv" .*expected 3 channels on axis 1 and 2 spatial axes'),
        ((2, 3, 14, 10), r'layer "fc" .*has 140 values from axis 1 on; expected 120'),
    ],
)
def test_sizes_that_a_layer_cannot_take(net, shape, message):
    with pytest.raises(SphereFaceError, match=message):
        net(torch.zeros(shape))
    # A remembered size does not hide the error the second time.
    with pytest.raises(SphereFaceError, match=message):
        net(torch.zeros(shape))


def test_many_sizes_are_not_all_remembered(monkeypatch):
    monkeypatch.setattr("sphereface.caffe.net._SHAPES_REMEMBERED", 4)
    net = load(DEPLOY)
    for width in range(3, 13):
        net(torch.zeros(1, 3, 3, width))
        assert ((1, 3, 3, width),) in net._known_shapes
        assert len(net._known_shapes) <= 4


def test_wrong_inputs(net, x):
    for call, message in (
        (lambda: net(), 'input "data" of net "small" is missing'),
        (lambda: net(x, x), '2 inputs for net "small"; expected "data"'),
        (lambda: net(Data=x), 'no free input "Data"; expected "data"; did you mean "data"'),
        (lambda: net(x, data=x), 'no free input "data"'),
        (lambda: net(x.numpy()), r"is a numpy.ndarray; expected a torch.Tensor"),
        (lambda: net.infer_shapes({"dat": (1,)}), 'input_shapes: .*did you mean "data"'),
        (lambda: net.layer("pol"), 'no layer "pol"; did you mean "pool"'),
    ):
        with pytest.raises(SphereFaceError, match=message):
            call()


def test_loss_sums_weighted_tops(x):
    text = TRAIN.replace('top: "loss" }', 'top: "loss" loss_weight: 0.5 }')
    net = load(text.replace('name: "fc"', 'name: "fc" loss_weight: 2'), phase="TRAIN")
    outputs = net(x, torch.tensor([1, 4]))
    # fc is read by the loss layer, so it is no output; it is returned for its loss weight.
    assert net.outputs == ("loss",)
    assert list(outputs) == ["loss", "fc"]
    assert net.loss_weights == {"fc": 2.0, "loss": 0.5}
    expected = 0.5 * outputs["loss"] + 2 * outputs["fc"].sum()
    torch.testing.assert_close(net.loss(outputs), expected)
    with pytest.raises(SphereFaceError, match="no loss"):
        load(DEPLOY).loss({})


def test_learnable_blobs_are_caffes(net):
    keys = [blob.key for blob in net.learnable_blobs()]
    assert keys == list(net.state_dict())
    blob = next(net.learnable_blobs())
    assert blob.layer is net.layer("conv")
    assert blob.tensor is net.layer("conv").weight


def test_a_replaced_submodule_is_run(net, x):
    net.fc = nn.Flatten()
    assert net(x)["fc"].shape == (2, 120)


def test_dtype_moves_and_channels_last(net, x):
    expected = net(x)["fc"]
    double = net.double()(x.double())["fc"]
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), expected)
    last = net.float().to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last))["fc"], expected)


def test_autocast(net, x):
    expected = net(x)["fc"]
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x)["fc"]
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() / expected.norm() < 0.02


def test_compile_without_graph_breaks(net, x):
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    found = compiled(x)["fc"]
    torch.testing.assert_close(found, net(x)["fc"])
    found.sum().backward()
    assert net.layer("conv").weight.grad.abs().sum() > 0
    assert list(compiled(x, blobs=("pool",))) == ["fc", "pool"]
    train = load(TRAIN, phase="TRAIN")
    labels = torch.tensor([1, 4])
    compiled = torch.compile(train, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, labels)["loss"], train(x, labels)["loss"])


@pytest.mark.parametrize("strict", [False, True])
def test_export_with_a_dynamic_batch(net, x, strict):
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(
        net, (x,), dynamic_shapes={"inputs": ({0: batch},)}, strict=strict
    )
    for count in (1, 5):
        other = torch.randn(count, 3, 12, 10)
        torch.testing.assert_close(program.module()(other)["fc"], net(other)["fc"])
    names = {re.sub(r"^_orig_mod\.", "", name) for name in program.state_dict}
    assert names == set(net.state_dict())


def test_fillers_follow_the_generator():
    first, second = (load(DEPLOY, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    other = load(DEPLOY, generator=torch.Generator().manual_seed(8))
    assert not torch.equal(first.layer("conv").weight, other.layer("conv").weight)


def test_distributed_data_parallel(net, x, tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        parallel = nn.parallel.DistributedDataParallel(net)
        parallel(x)["fc"].square().sum().backward()
        found = [parameter.grad.clone() for parameter in net.parameters()]
    finally:
        torch.distributed.destroy_process_group()
    net.zero_grad()
    net(x)["fc"].square().sum().backward()
    for ours, expected in zip(found, net.parameters(), strict=True):
        torch.testing.assert_close(ours, expected.grad)


def test_its_repr_tells_what_it_is(net):
    assert repr(net).splitlines() == [
        "Net('small', TEST",
        "  (input): Input() -> data 2×3×12×10",
        "  (conv): Convolution(weight 4×3×3×3, bias 4) -> conv 2×4×12×10",
        "  (relu): PReLU(weight 4) -> conv 2×4×12×10",
        "  (conv2): Convolution(weight 4×4×3×3, bias 4) -> conv2 2×4×12×10",
        "  (sum): Eltwise() -> sum 2×4×12×10",
        "  (pool): Pooling() -> pool 2×4×6×5",
        "  (fc): InnerProduct(weight 5×120, bias 5) -> fc 2×5",
        ")",
    ]


@pytest.mark.parametrize("dims", ["dim: -1 dim: 3", "dim: 65536 dim: 65536"])
def test_sizes_that_no_blob_has(dims):
    text = f"""layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}"""
    with pytest.raises(SphereFaceError, match=r'"in".*top "x" of shape .* at most 2147483647'):
        load(text)


def test_too_little_memory_names_the_layer(monkeypatch):
    net = load("""layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }
layer { name: "act" type: "ReLU" bottom: "x" top: "y" }""")
    message = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate"

    def forward(x):
        raise RuntimeError(message)

    monkeypatch.setattr(net.act, "forward", forward)
    with pytest.raises(SphereFaceError, match=r'"act".*no memory to compute it \(.*alloc_cpu'):
        net(torch.zeros(2))
    message = "another"
    with pytest.raises(RuntimeError, match="another"):
        net(torch.zeros(2))


def test_sizes_given_by_hand_are_no_exception():
    text = 'input: "x" input_dim: [1, 3, 4, 4]'
    with pytest.raises(SphereFaceError, match=r'top "x" of shape \(-1, 3, 4, 4\)'):
        load(text, input_shapes={"x": (-1, 3, 4, 4)})


@pytest.mark.parametrize("dims", ["dim: -2", "dim: 2147483647 dim: 2147483647"])
def test_dummy_data_is_no_exception(dims):
    with pytest.raises(SphereFaceError, match=r'"d" \(DummyData\).*top "d" of shape'):
        load(f"""layer {{ name: "d" type: "DummyData" top: "d"
            dummy_data_param {{ shape {{ {dims} }} }} }}""")


def test_layers_that_cannot_be_built_are_told_together():
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3] } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 2 } }
layer { name: "b" type: "ReLU" bottom: "a" top: "b" }
layer { name: "c" type: "Concat" bottom: "x" top: "c" concat_param { axis: 7 } }
layer { name: "d" type: "InnerProduct" bottom: "x" top: "d" inner_product_param { num_output: 2 } }
layer { name: "e" type: "Eltwise" bottom: "x" bottom: "d" top: "e" }"""
    with pytest.raises(ProblemsError, match='^net "": 3 problems') as caught:
        load(text)
    assert [error.where for error in caught.value.problems] == [
        'prototxt:2: layer "a" (Convolution)',
        'prototxt:4: layer "c" (Concat)',
        'prototxt:6: layer "e" (Eltwise)',
    ]
