"""A forked child computes, whatever its parent ran."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, signal, sys
import torch
import sphereface

torch.set_num_threads(4)
net = sphereface.caffe.load('input: "x" input_dim: [4, 3, 64, 64] layer { name: "c" type: '
    '"Convolution" bottom: "x" top: "c" convolution_param { num_output: 16 kernel_size: 3 } } '
    'layer { name: "f" type: "InnerProduct" bottom: "c" top: "f" '
    'inner_product_param { num_output: 64 } }')
x = torch.ones(4, 3, 64, 64)
head, weight, label = torch.randn(64, 64), torch.randn(2000, 64), torch.arange(64)

def run():
    with torch.no_grad():
        net(x)
    rows = head.clone().requires_grad_()
    sphereface.margin_softmax_loss(rows, weight, label, 5.0).backward()
    return rows.grad

before = run()
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that hangs is killed
    found = run()
    os._exit(7 if torch.get_num_threads() == 1 and torch.allclose(found, before) else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(code, torch.get_num_threads())
"""


def test_a_forked_child_computes_with_one_thread():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "7 4\n"
