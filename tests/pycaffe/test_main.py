from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import numpy as np
import caffe
from helper_module import twice

assert __name__ == '__main__'
caffe.set_mode_cpu()
net = caffe.Net(sys.argv[1], caffe.TEST)
net.blobs['x'].data[...] = twice(3)
print(net.forward()['y'].tolist(), sys.argv[2])
"""


def run(*arguments):
    command = [sys.executable, "-m", "sphereface.pycaffe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_script_runs_unchanged(write_net, tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "helper_module.py").write_text("def twice(x): return 2 * x")
    (scripts / "script.py").write_text(SCRIPT)
    model = write_net("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
        layer { name: "y" type: "Power" bottom: "x" top: "y" power_param { shift: 1 } }
    """)
    result = run(str(scripts / "script.py"), model, "argument")
    assert (result.returncode, result.stdout) == (0, "[7.0, 7.0] argument\n"), result.stderr


def test_without_a_script():
    for arguments in ((), ("missing.py",)):
        result = run(*arguments)
        assert result.returncode == 1
        assert "usage: python -m sphereface.pycaffe script.py" in result.stderr
        assert "Traceback" not in result.stderr
