"""The detector's tower as the product reads it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from myosotis.embedded import detector
from myosotis.embedded.tower import ImageTower, zero_shot
from numpy.typing import NDArray


def pictures(count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def test_a_saved_tower_encodes_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower = ImageTower(32).eval()
    tower.save(tmp_path, scale=20.0)
    again = ImageTower.load(tmp_path)
    before, after = tower.encode_images(pictures()), again.encode_images(pictures())
    assert before.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(before, after, atol=5e-3)


def test_the_product_reads_the_same_weights() -> None:
    torch.manual_seed(0)
    tower, product = ImageTower(32), detector.ImageTower(32)
    assert set(tower.state_dict()) == set(product.state_dict())


def test_pictures_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="pictures"):
        ImageTower(32).encode_images(pictures()[..., :1])


def test_the_nearest_text_is_the_likeliest() -> None:
    texts = np.eye(3, dtype=np.float32)
    chances = zero_shot(texts, texts, scale=10.0)
    np.testing.assert_allclose(chances.sum(1), 1.0, rtol=1e-5)
    assert chances.argmax(1).tolist() == [0, 1, 2]
