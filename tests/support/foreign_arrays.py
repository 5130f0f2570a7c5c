"""Arrays as files of other systems hold them."""

import numpy as np

RNG = np.random.default_rng(0)
ARRAYS = {
    "a.weight": RNG.standard_normal((3, 2, 5, 5)).astype(np.float32),
    "a.half": RNG.standard_normal(4).astype(np.float16),
    "a.double": RNG.standard_normal((2, 2)),
    "a.num_batches_tracked": np.array(5, np.int64),
}


def assert_same_arrays(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
