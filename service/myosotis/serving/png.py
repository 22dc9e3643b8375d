"""PNG files that say where they come from."""

import io
from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from myosotis.serving.orders import Origin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREFIX = "Myosotis-"


def encode_png(pixels: "NDArray[np.uint8]", origin: Origin) -> bytes:
    """*pixels*, uint8 [height, width, 3], as PNG with *origin* in its text chunks."""
    text = PngInfo()
    text.add_text("Software", "Myosotis")
    for key, value in (
        ("Generation", origin.generation),
        ("Patch-Digest", origin.patch_digest),
        ("Policy-Revision", origin.policy_revision),
        ("Batch-Size", origin.batch_size),
        ("Batch-Index", origin.batch_index),
    ):
        text.add_text(PREFIX + key, str(value))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", pnginfo=text)
    return file.getvalue()
