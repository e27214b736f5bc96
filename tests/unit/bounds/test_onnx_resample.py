"""Resize and Upsample against onnxruntime."""

from __future__ import annotations

import pytest
from onnx_checks import agree, f, ints, model_of, w

from bounds.errors import ModelUnsupported

IMAGE = (1, 2, 4, 3)
MODES = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]
SCALES = [(2, 2), (1.5, 2.5), (0.5, 1), (0.75, 0.4), (1, 3)]


@pytest.mark.parametrize("coordinates", MODES)
@pytest.mark.parametrize("scales", SCALES)
def test_linear(coordinates: str, scales: tuple[float, float]) -> None:
    body = f'y = Resize<mode="linear",coordinate_transformation_mode="{coordinates}">(x, , s)'
    agree(body, 19, x=IMAGE, s=f(1, 1, *scales))


@pytest.mark.parametrize("coordinates", MODES)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("outside", [0, 1])
def test_cubic(coordinates: str, scales: tuple[float, float], outside: int) -> None:
    body = (
        f'y = Resize<mode="cubic",coordinate_transformation_mode="{coordinates}",'
        f"exclude_outside={outside}>(x, , s)"
    )
    agree(body, 19, x=IMAGE, s=f(1, 1, *scales))


def test_sizes_coefficients_and_axes() -> None:
    agree('y = Resize<mode="linear">(x, , , n)', 13, x=IMAGE, n=ints(1, 2, 7, 5))
    agree('y = Resize<mode="cubic",cubic_coeff_a=-0.5>(x, , , n)', 13, x=IMAGE, n=ints(1, 2, 7, 5))
    agree('y = Resize<mode="linear",axes=[3,2]>(x, , s)', 18, x=IMAGE, s=f(2, 3))
    agree('y = Resize<mode="nearest",axes=[2]>(x, , , n)', 18, x=IMAGE, n=ints(7))
    agree('y = Resize<mode="linear">(x, , s)', 13, x=(1, 2, 5), s=f(1, 1, 2))
    agree('y = Resize<mode="linear">(x, , s)', 13, x=(1, 1, 2, 3, 2), s=f(1, 1, 2, 2, 2))


def test_old_opsets() -> None:
    agree('y = Resize<mode="linear">(x, s)', 10, x=IMAGE, s=f(1, 1, 2, 2))
    agree('y = Upsample<mode="linear">(x, s)', 9, x=IMAGE, s=f(1, 1, 2, 2))
    agree('y = Upsample<mode="linear",scales=[1.0,1.0,2.0,3.0]>(x)', 7, x=IMAGE)


def test_what_is_not_analysed() -> None:
    for attributes in ('antialias=1,mode="linear"', 'keep_aspect_ratio_policy="not_larger"'):
        with pytest.raises(ModelUnsupported):
            model_of(f"y = Resize<{attributes}>(x, , , n)", 18, x=IMAGE, n=ints(1, 2, 7, 5))
    with pytest.raises(ModelUnsupported, match="tf_crop"):
        body = 'y = Resize<mode="linear",coordinate_transformation_mode="tf_crop_and_resize">(x, r, s)'
        model_of(body, 18, x=IMAGE, r=w(8), s=f(1, 1, 2, 2))
