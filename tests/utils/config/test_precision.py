"""One list of precisions, from which all others are derived."""

from __future__ import annotations

import pytest
import torch

from ultralytics.cfg import kinds
from ultralytics.engine.export.exporter import EXPORT_FORMATS
from ultralytics.engine.export.parity import TOLERANCES
from ultralytics.engine.training.replay import precision_name
from ultralytics.utils.config.precision import AMP_TYPES, BITS_OF_NAME, EXPORTED_PRECISIONS, MIXED_BITS, NAME_OF_BITS
from ultralytics.utils.torch_utils import AMP_DTYPES


def test_every_precision_of_amp_is_taken_and_named() -> None:
    assert AMP_DTYPES == {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
    for name, dtype in AMP_DTYPES.items():
        assert kinds.AMP.convert(name.upper()) == name and precision_name(dtype) == name
        assert f"'{name}'" in kinds.AMP.meaning
    for other in ("int8", "fp8", ""):
        with pytest.raises(ValueError, match=r"^$"):
            kinds.AMP.convert(other)


def test_every_way_to_write_bits_is_taken_and_named() -> None:
    for text, bits in BITS_OF_NAME.items():
        assert kinds.PRECISION.convert(text) == bits
        assert text in kinds.PRECISION.meaning
        assert (bits in NAME_OF_BITS) is (text not in MIXED_BITS)
    assert kinds.PRECISION.convert(16) == kinds.PRECISION.convert("W16A16") == 16
    for other in (4, "bf16"):
        with pytest.raises(ValueError, match=r"^$"):
            kinds.PRECISION.convert(other)


def test_exports_have_a_tolerance_for_each_precision_and_no_other() -> None:
    assert set(EXPORTED_PRECISIONS) == set(NAME_OF_BITS.values()) == set(TOLERANCES) == {"fp32", "fp16", "int8"}
    assert set(AMP_TYPES) - set(EXPORTED_PRECISIONS) == {"bf16"}
    assert {name for form in EXPORT_FORMATS.values() for name in form.precisions} == set(EXPORTED_PRECISIONS)
