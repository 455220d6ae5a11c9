import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distill.models import Outputs
from distill.teacher.codec import CODECS

CPU = torch.device("cpu")
SHAPES = {"descriptor": (1, 5), "logits": (3,)}
NUMBERS = st.floats(-6e4, 6e4, width=32, allow_subnormal=False)


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=50, deadline=None)
@given(
    descriptor=hnp.arrays(np.float32, (4, 1, 5), elements=NUMBERS),
    logits=hnp.arrays(np.float32, (4, 3), elements=NUMBERS),
)
def test_what_comes_back_is_within_the_error_that_the_codec_names(name, descriptor, logits):
    codec = CODECS[name]
    outputs = Outputs(descriptor=torch.from_numpy(descriptor), logits=torch.from_numpy(logits))
    rows = codec.encode(outputs)
    assert rows.shape == (4,) and rows.dtype == codec.dtype(SHAPES)
    found = codec.decode(rows[::2], CPU)
    assert list(found) == list(SHAPES)
    for output, wanted in outputs.items():
        assert found[output].dtype == torch.float32
        largest = wanted[::2].flatten(1).abs().amax(1)
        differs = (found[output] - wanted[::2]).flatten(1).abs().amax(1)
        allowed = codec.error * (1 + 1e-6) * largest + 2.0**-24  # where float16 ends
        assert (differs <= allowed).all()


def test_int8_by_hand():
    rows = CODECS["int8"].encode(
        Outputs(descriptor=torch.tensor([[[254.0, -1.2, 3.0]], [[0.0, 0.0, 0.0]]]))
    )
    assert rows.dtype.itemsize == 3 + 4
    assert rows["descriptor"].tolist() == [[[127, -1, 2]], [[0, 0, 0]]]
    assert rows["descriptor/scale"].tolist() == [2.0, 0.0]
    found = CODECS["int8"].decode(rows, CPU)["descriptor"]
    assert found.tolist() == [[[254.0, -2.0, 4.0]], [[0.0, 0.0, 0.0]]]


def test_float32_is_the_very_bits():
    values = torch.randn(7, 1, 5) * 1e30
    rows = CODECS["float32"].encode(Outputs(descriptor=values))
    assert torch.equal(CODECS["float32"].decode(rows, CPU)["descriptor"], values)


@pytest.mark.parametrize(("name", "size"), [("float32", 32), ("float16", 16), ("int8", 16)])
def test_rows_have_a_fixed_width(name, size):
    assert CODECS[name].dtype(SHAPES).itemsize == size
