"""The exported PyTorch model, as anomalib's own inferencer reads it."""

import numpy as np
import torch
from anomalib.deploy import TorchInferencer

from anomalib_sofs import Sofs, SupportSet
from anomalib_sofs.tensors import read_image


def test_predictions_of_torch_inferencer_keep_no_gradients(support_folder, tmp_path, monkeypatch):
    model = Sofs()
    model.set_support(SupportSet.from_folder(support_folder / "support"))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    path = model.to_torch(tmp_path)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == learning != set()
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    inferencer = TorchInferencer(path, device="cpu")
    image = read_image(support_folder / "images/0.png")
    found = inferencer.model(image[None]).anomaly_map.numpy()  # refused where a graph of gradients hangs on it
    with torch.inference_mode():
        expected = model.eval()(image[None]).anomaly_map.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert inferencer.predict(support_folder / "images/0.png").anomaly_map.requires_grad is False
