"""anomalib's own integration cycle, as it runs it for every name in list_models()."""

import onnxruntime
import pytest
import torch
from anomalib.data import get_datamodule
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from anomalib.models import get_model, list_models

from anomalib_sofs import MVTecADEpisodes, MVTecLike, Sofs
from anomalib_sofs.openvino_core import core

SIZES = [(1, 3, 70, 113), (2, 3, 200, 96)]


@pytest.fixture(scope="module")
def fitted(mixed_sizes, tmp_path_factory):
    """A model with default arguments after `Engine.fit` on the stock datamodule."""
    root = tmp_path_factory.mktemp("engine")
    model = get_model("sofs")
    engine = Engine(default_root_dir=root, max_epochs=1, devices=1, accelerator="cpu")
    datamodule = MVTecLike(root=mixed_sizes, category="part", num_workers=0)
    engine.fit(model=model, datamodule=datamodule)
    return engine, model, datamodule, root


def saved(root):
    return min(root.rglob("model.ckpt"))


def test_sofs_is_listed_and_found_by_every_name():
    assert "sofs" in list_models()
    assert type(get_model({"class_path": "Sofs", "init_args": {"shot": 2}})) is Sofs
    datamodule = get_datamodule({"class_path": "MVTecADEpisodes", "init_args": {"novel_categories": ["a"]}})
    assert type(datamodule) is MVTecADEpisodes


def test_test_and_validate_and_train_after_fit(fitted, tmp_path):
    engine, model, datamodule, root = fitted
    tested = engine.test(model=model, datamodule=datamodule, ckpt_path=saved(root))[0]
    engine.validate(model=get_model("sofs"), datamodule=datamodule)
    again = Engine(default_root_dir=tmp_path, max_epochs=1, devices=1, accelerator="cpu")
    trained = again.train(
        model=get_model("sofs"), datamodule=MVTecLike(root=datamodule.root, category="part", num_workers=0)
    )[0]
    assert trained == pytest.approx(tested, abs=1e-5)


def test_predict_from_the_saved_checkpoint(fitted):
    _, _, datamodule, root = fitted
    engine = Engine(default_root_dir=root, devices=1, accelerator="cpu")
    predictions = engine.predict(model=get_model("sofs"), ckpt_path=saved(root), datamodule=datamodule)
    assert len(predictions) == 9
    for batch in predictions:
        assert batch.anomaly_map.shape[-2:] == batch.image.shape[-2:] == batch.pred_mask.shape[-2:]


@pytest.mark.parametrize("export_type", ["torch", "onnx"])
def test_export_without_input_size_equals_torch(fitted, tmp_path, export_type):
    """The ONNX file is what the OpenVINO export is made of; it runs in both engines."""
    *_, root = fitted
    engine = Engine(default_root_dir=root, devices=1, accelerator="cpu")
    path = engine.export(
        model=get_model("sofs"), ckpt_path=saved(root), export_type=ExportType(export_type), export_root=tmp_path
    )
    reference = Sofs.load_from_checkpoint(saved(root)).eval()
    if export_type == "torch":
        loaded = torch.load(path, weights_only=False)["model"].eval()
        runtimes = [lambda image: loaded(image)._asdict()]
    else:
        runtimes = [with_onnxruntime(path), with_openvino(path)]
    for size in SIZES:
        image = torch.rand(size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = reference(image)
        for predict in runtimes:
            found = predict(image)
            assert found["anomaly_map"].shape == (size[0], *size[2:])
            torch.testing.assert_close(found["anomaly_map"], expected.anomaly_map, atol=1e-4, rtol=0)
            torch.testing.assert_close(found["pred_score"], expected.pred_score, atol=1e-4, rtol=0)


def with_onnxruntime(path):
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(
        zip(names, map(torch.from_numpy, session.run(None, {"input": image.numpy()})), strict=True)
    )


def with_openvino(path):
    compiled = core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def predict(image):
        output = compiled(image.numpy())
        return {name: torch.from_numpy(output[name]) for name in ("anomaly_map", "pred_score")}

    return predict


def test_stock_images_of_many_sizes_are_never_resized(fitted):
    _, model, datamodule, _ = fitted
    shapes = {tuple(batch.image.shape[-2:]) for batch in datamodule.test_dataloader()}
    assert shapes == {(101, 155), (140, 97), (64, 200)}
    assert model.model.head.windows.size == 512
