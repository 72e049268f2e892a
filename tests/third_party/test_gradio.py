"""Gradio: the function and the interface of its object-detection example; no server is started."""

from __future__ import annotations

import PIL.Image
import pytest

from ultralytics import YOLO

gr = pytest.importorskip("gradio", exc_type=ImportError)


def test_an_interface(weights: str, picture: str) -> None:
    model = YOLO(weights)

    def predict_image(img: PIL.Image.Image, conf_threshold: float, iou_threshold: float) -> PIL.Image.Image:
        results = model.predict(
            source=img, conf=conf_threshold, iou=iou_threshold, show_labels=True, show_conf=True, imgsz=96
        )
        return [PIL.Image.fromarray(r.plot()[..., ::-1]) for r in results][-1]

    interface = gr.Interface(
        fn=predict_image,
        inputs=[
            gr.Image(type="pil", label="Upload Image"),
            gr.Slider(minimum=0, maximum=1, value=0.25, label="Confidence threshold"),
            gr.Slider(minimum=0, maximum=1, value=0.45, label="IoU threshold"),
        ],
        outputs=gr.Image(type="pil", label="Result"),
    )
    assert len(interface.input_components) == 3
    image = PIL.Image.open(picture)
    assert predict_image(image, 0.02, 0.45).size == image.size
