"""What is loaded when: packages that take long only come with what needs them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch._dynamo", "sympy", "onnx", "onnxruntime", "sklearn", "scipy", "matplotlib", "cv2")
NET = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }' + (
    ' layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"'
    ' inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }'
)


def loaded_by(script: str, names: tuple[str, ...]) -> str:
    """Return which of `names` a new process has loaded after `script`."""
    ask = f"\nimport sys; print('loaded', *[n for n in {names!r} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script + ask], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "script",
    [
        f"import sphereface; net = sphereface.caffe.load({NET!r})",
        f"import sphereface, torch; sphereface.caffe.load({NET!r})(torch.zeros(1, 3))",
        "import sphereface.pycaffe",
    ],
    ids=["build", "forward", "pycaffe"],
)
def test_the_first_net_loads_no_compiler_and_no_extras(script):
    assert loaded_by(script, HEAVY) == "loaded"


def test_help_loads_no_arrays():
    script = (
        "import contextlib; from sphereface.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])"
    )
    names = ("torch", "numpy", "google.protobuf", "importlib.metadata")
    assert loaded_by(script, names) == "loaded"
