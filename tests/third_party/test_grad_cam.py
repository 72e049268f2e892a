"""pytorch-grad-cam: EigenCAM and Grad-CAM on a layer of the network."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from ultralytics import YOLO

pytest.importorskip("pytorch_grad_cam")


@pytest.mark.parametrize("name", ["EigenCAM", "GradCAM"])
def test_a_layer(name: str, weights: str, picture: str) -> None:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.image import show_cam_on_image

    img = cv2.resize(cv2.imread(picture), (96, 96))
    rgb_img = np.float32(img[..., ::-1]) / 255
    tensor = torch.from_numpy(rgb_img.transpose(2, 0, 1).copy())[None]
    model = YOLO(weights)
    network = model.model.eval()
    target_layers = [network.model[2]]
    targets = [lambda rows: rows[..., 4].sum()]  # the scores of the rows (B, K, 6)
    with getattr(pytorch_grad_cam, name)(network, target_layers) as cam:
        grayscale_cam = cam(tensor, targets=targets)[0, :, :]
    assert grayscale_cam.shape == (96, 96) and grayscale_cam.max() > 0
    assert show_cam_on_image(rgb_img, grayscale_cam, use_rgb=True).shape == (96, 96, 3)
