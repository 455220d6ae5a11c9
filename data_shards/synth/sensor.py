"""From light to a file: exposure, colour cast, blur, vignette, noise and JPEG."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from data_shards.synth.grid import Floats


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """What a camera does to the light that reaches it."""

    key: float
    """Brightness that the average of a picture is exposed to."""

    cast: tuple[float, float, float]
    contrast: float
    saturation: float
    blur_px: float
    vignette: float
    noise: float
    """Standard deviation of the noise in steps of 1/255."""

    jpeg_quality: int


def develop(light: Floats, rng: np.random.Generator, *, sensor: Sensor) -> bytes:
    """Expose, develop and compress one photograph from linear light, (3, size, size)."""
    if sensor.blur_px > 0:
        blur_px = (0, sensor.blur_px, sensor.blur_px)
        light = ndimage.gaussian_filter(light, blur_px, truncate=2.5)
    exposed = light * np.float32(sensor.key / max(float(light.mean()), 1e-6))
    exposed *= np.array(sensor.cast, np.float32)[:, None, None]
    shown = _tone(exposed * _vignette(light.shape[-1], sensor.vignette))
    shown = (shown - np.float32(0.46)) * np.float32(sensor.contrast) + np.float32(0.46)
    grey = (shown[0] + shown[1] + shown[2]) * np.float32(1 / 3)
    shown = grey + (shown - grey) * np.float32(sensor.saturation)
    grain = rng.standard_normal(light.shape, np.float32) * np.float32(sensor.noise / 255)
    levels = np.clip((shown + grain) * 255 + np.float32(0.5), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))
    picture.save(file, "JPEG", quality=sensor.jpeg_quality)
    return file.getvalue()


def _tone(exposed: Floats) -> Floats:
    """Apply the display curve, with a soft shoulder for what is brighter than white."""
    soft = exposed * (1 + exposed * np.float32(0.18)) / (1 + exposed * np.float32(0.55))
    shown: Floats = np.maximum(soft, 0) ** np.float32(1 / 2.2) * np.float32(1.08)
    return shown


def _vignette(size: int, strength: float) -> Floats:
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    radius2 = (axis * axis)[:, None] + (axis * axis)[None, :]
    falloff: Floats = 1 - np.float32(0.5 * strength) * radius2
    return falloff
