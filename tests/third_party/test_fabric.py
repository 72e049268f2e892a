"""Lightning Fabric: its five lines around a training loop with the network's own loss."""

from __future__ import annotations

import pytest
import torch

from tests.nn.networks import batch_of, tiny

fabric_package = pytest.importorskip("lightning_fabric")


def test_a_training_loop() -> None:
    fabric = fabric_package.Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    model = tiny().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model, optimizer = fabric.setup(model, optimizer)
    dataloader = fabric.setup_dataloaders(torch.utils.data.DataLoader([batch_of()] * 2, batch_size=None))
    losses = []
    for batch in dataloader:
        optimizer.zero_grad()
        loss, _ = model(batch)
        fabric.backward(loss.sum())
        optimizer.step()
        losses.append(float(loss.detach().sum()))
    assert len(losses) == 2 and all(0 < value < 1e4 for value in losses)
