"""The image score of few-shot segmentation: the largest probability, in PyTorch and exported alike."""

import onnxruntime
import pytest
import torch

from anomalib_sofs import Sofs

from .helpers_model import marked, support


def test_the_exported_score_equals_torch(tmp_path):
    model = Sofs().eval()
    model.set_support(support(marked(96, 128, (40, 40, 46, 48))))
    session = onnxruntime.InferenceSession(model.to_onnx(tmp_path))
    names = [output.name for output in session.get_outputs()]
    for size in ((96, 128), (131, 77)):
        image, _ = marked(*size, (30, 30, 36, 38), seed=1)
        with torch.inference_mode():
            expected = model(image[None])
        found = dict(zip(names, session.run(None, {"input": image[None].numpy()}), strict=True))
        assert float(found["pred_score"][0]) == pytest.approx(float(expected.pred_score), abs=1e-4)
        assert float(expected.pred_score) == float(expected.anomaly_map.max()) > 0.1
