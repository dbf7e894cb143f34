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


# The way of Caffe's python/train.py on one device.
TRAIN = """
import sys
from multiprocessing import Process
import caffe

def train(solver):
    uid = caffe.NCCL.new_uid()
    caffe.init_log(0, True)
    caffe.log('Using devices [0]')
    process = Process(target=solve, args=(solver, uid))
    process.start()
    process.join()
    print('ended with', process.exitcode)

def solve(proto, uid):
    caffe.set_mode_cpu()
    caffe.set_device(0)
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)
    caffe.set_multiprocess(True)
    solver = caffe.SGDSolver(proto)
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    timers = [caffe.Timer() for _ in solver.net.layers]
    total = caffe.Timer()
    solver.net.before_forward(lambda layer: timers[layer].start())
    solver.net.after_forward(lambda layer: timers[layer].stop())
    solver.add_callback(lambda: total.start(), lambda: total.stop())
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    solver.step(solver.param.max_iter)
    print(solver.iter, total.ms > 0, all(timer.ms > 0 for timer in timers[1:]), flush=True)

if __name__ == '__main__':
    train(sys.argv[1])
"""
NET = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: [2, 3] } } }
layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
layer { name: "l" type: "Reduction" bottom: "y" top: "l" loss_weight: 1 }
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


def test_training_on_one_device(write_net, tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    solver = tmp_path / "solver.prototxt"
    solver.write_text(f'net: "{write_net(NET)}" base_lr: 0.1 lr_policy: "fixed" max_iter: 3')
    result = run(str(tmp_path / "train.py"), str(solver))
    assert result.stdout == "3 True True\nended with 0\n", result.stderr
    assert "] Using devices [0]\n" in result.stderr


def test_without_a_script():
    for arguments in ((), ("missing.py",)):
        result = run(*arguments)
        assert result.returncode == 1
        assert "usage: python -m sphereface.pycaffe script.py" in result.stderr
        assert "Traceback" not in result.stderr
