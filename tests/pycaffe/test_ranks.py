import pytest

from sphereface import SphereFaceError
from sphereface import pycaffe as caffe


def test_one_process_one_solver():
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)
    for multiprocess in (True, False):  # the only process is the first of one
        caffe.set_multiprocess(multiprocess)
    assert (caffe.has_nccl(), caffe.solver_count(), caffe.solver_rank()) == (False, 1, 0)


@pytest.mark.parametrize(
    ("call", "value"), [(caffe.set_solver_count, 2), (caffe.set_solver_rank, 1)]
)
def test_more_is_refused(call, value):
    with pytest.raises(SphereFaceError, match="for one process; train on several devices with"):
        call(value)


def test_an_nccl_of_one_changes_nothing(small_net, image):
    net = small_net()
    uid = caffe.NCCL.new_uid()
    assert uid != caffe.NCCL.new_uid()
    nccl = caffe.NCCL(None, uid)
    before = net.params["conv"][0].data.copy()
    nccl.bcast()
    net.after_backward(nccl)
    net.forward(data=image)
    net.backward()
    assert (net.params["conv"][0].data == before).all()
