import pytest

from sphereface import SphereFaceError
from sphereface import pycaffe as caffe


def test_one_process_one_solver():
    caffe.init_log()
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)
    caffe.set_multiprocess(False)
    assert (caffe.has_nccl(), caffe.solver_count(), caffe.solver_rank()) == (False, 1, 0)


@pytest.mark.parametrize(
    ("call", "value"),
    [(caffe.set_solver_count, 2), (caffe.set_solver_rank, 1), (caffe.set_multiprocess, True)],
)
def test_more_is_refused(call, value):
    with pytest.raises(SphereFaceError, match="for one process; train on several devices with"):
        call(value)
