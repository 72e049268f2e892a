"""supervision: `Detections.from_ultralytics`, annotators and an evaluation, as its documentation gives them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ultralytics import YOLO

sv = pytest.importorskip("supervision")


def test_detections_and_annotators(weights: str, picture: str) -> None:
    image = cv2.imread(picture)
    model = YOLO(weights)
    results = model(image, conf=0.02, verbose=False)[0]
    detections = sv.Detections.from_ultralytics(results)
    assert len(detections) == len(results) > 0
    np.testing.assert_array_equal(detections.xyxy, results.boxes.xyxy.numpy())
    np.testing.assert_array_equal(detections.confidence, results.boxes.conf.numpy())
    assert detections.class_id.tolist() == results.boxes.cls.int().tolist()
    assert detections["class_name"].tolist() == [results.names[c] for c in detections.class_id]
    own = results.to_supervision()
    np.testing.assert_array_equal(own.xyxy, detections.xyxy)

    labels = [
        f"{class_name} {confidence:.2f}"
        for class_name, confidence in zip(detections["class_name"], detections.confidence, strict=True)
    ]
    annotated = sv.BoxAnnotator().annotate(scene=image.copy(), detections=detections)
    annotated = sv.LabelAnnotator().annotate(scene=annotated, detections=detections, labels=labels)
    assert annotated.shape == image.shape and (annotated != image).any()


def test_an_image_without_detections(weights: str, picture: str) -> None:
    results = YOLO(weights)(picture, conf=0.99, verbose=False)[0]
    assert len(sv.Detections.from_ultralytics(results)) == 0


def test_inference_slicer(weights: str, picture: str) -> None:
    model = YOLO(weights)

    def callback(image_slice: np.ndarray) -> object:
        result = model(image_slice, conf=0.02, verbose=False)[0]
        return sv.Detections.from_ultralytics(result)

    slicer = sv.InferenceSlicer(callback=callback, slice_wh=(96, 96), overlap_wh=(16, 16))
    assert len(slicer(cv2.imread(picture))) > 0
