import pytest
import torch

from sphereface.ops import annealed_lambda


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("iteration", [0, 1, 77, 10**6])
def test_formula(iteration, power, device):
    count = torch.tensor(iteration, device=device)
    expected = max(1000 * (1 + 0.12 * iteration) ** -power, 3.0)
    got = annealed_lambda(count, 1000, 0.12, power, 3.0)
    assert got.dtype == torch.float32
    assert got.device == count.device
    assert got.item() == pytest.approx(expected, rel=1e-6)


def test_bad_iteration_is_named():
    with pytest.raises(RuntimeError, match="dtype float32; expected one int64 value"):
        annealed_lambda(torch.tensor(1.0))
