"""Batches that are added up give the step of the one large batch, also at an epoch's end and without objects.

Norms are frozen, since they see single batches; denoising is off, since its layout follows the fullest image of a
batch. The images are noisy, since in plain ones many tokens are equally good and the last bit decides which is chosen.
Plain SGD, so that a difference in a gradient is no more and no less in a weight. Each step begins with the weights of
the whole run: rounding grows from step to step, until it decides about a match.
"""

import copy

import cv2
import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tests.engine.tiny import IMAGES, write_dataset
from tests.engine.training.child import network
from tests.engine.training.plain import EMPTY, NO_DENOISING, PLAIN
from ultralytics.data.build import EpochSampler
from ultralytics.models.rtdetr.train import RTDETRTrainer

OWN = {"nbs": 8, "epochs": 2, "val": False, "freeze": ["bn", "input_proj"], "clip_norm": 0.1, "sync_bn": False}


@pytest.fixture(scope="module")
def images():
    """Eleven images: a step of eight and one of three. A batch of two without an object is among them."""
    return [*IMAGES, *[EMPTY] * 4, IMAGES[0], IMAGES[1], IMAGES[3]]


@pytest.fixture(scope="module")
def steps(tmp_path_factory, images):
    """Runs a batch size; returns the weights after each step, which are then replaced by those of `lead`, if given."""
    root = tmp_path_factory.mktemp("accumulation")
    data = str(write_dataset(root / "set", images))
    rng = np.random.default_rng(0)
    for path in map(str, (root / "set" / "images").rglob("*.png")):
        image = cv2.imread(path)
        cv2.imwrite(path, (image + rng.normal(0, 25, image.shape)).clip(0, 255).astype(np.uint8))
    trainer = RTDETRTrainer(overrides={**PLAIN, "data": data})
    start = trainer.get_model(cfg=network(NO_DENOISING), verbose=False)
    norms = [m for m in start.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    batch = trainer.preprocess_batch(next(iter(trainer.get_dataloader(trainer.data["train"], 11))))
    with torch.no_grad():
        start.train().predict(batch["img"])  # statistics of these images: features of size 1, as in a real run

    def run(lead=None, **changes):
        trainer = RTDETRTrainer(overrides={**PLAIN, **OWN, "data": data, "project": str(root), **changes})
        trainer.model, trainer.final_val = copy.deepcopy(start), False
        seen = []

        def look(t):
            seen.append(parameters_to_vector(t.train_step.parts.parameters).detach())
            if lead is not None:
                vector_to_parameters(lead[len(seen) - 1].clone(), t.train_step.parts.parameters)

        trainer.add_callback("optimizer_step", look)
        trainer.train()
        return torch.stack(seen)

    return run


def test_a_batch_without_objects_is_added_up(images):
    order = EpochSampler(len(images), True, 0).order()
    assert [order[k : k + 2] for k in range(0, 11, 2) if not any(images[i][1] for i in order[k : k + 2])]


@pytest.mark.parametrize("loss", ["vfl", "mal"])
def test_two_times_four_is_eight(steps, loss):
    whole = steps(batch=8, loss=loss)
    parts = steps(batch=2, loss=loss, lead=whole)
    assert len(whole) == len(parts) == 4  # two steps an epoch, the second of three images
    assert (whole[1:] - whole[:-1]).abs().amax(1).min() > 1e-5  # every step moves the weights
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)
