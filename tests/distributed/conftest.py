import pytest

from rank_pool import RankPool


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    pool = RankPool(tmp_path_factory.mktemp("ranks"))
    yield pool
    pool.close()
