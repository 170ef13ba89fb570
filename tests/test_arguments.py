"""Wrong values are refused with the argument's name, on the command line within few lines; right ones are saved plain."""

import pytest
import torch
from jsonargparse.typing import NonNegativeInt, OpenUnitInterval, PositiveInt

from anomalib_sofs import FolderEpisodes, MVTecLike, Sofs, SurfaceEpisodes

from .helpers_scripts import run


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--model.threshold", "0"), 2, ['Parser key "threshold":', "0 does not conform to restriction v>0 and v<1"]),
        (("--model.support", "nope"), 2, ['Parser key "support":', "the folder does not exist", "Given value: nope"]),
        (("--model.backbone", "nope"), 1, ["error: Backbone 'nope' is not a timm model."]),
        ((), 1, ["error: No support set: pass support=FOLDER"]),
    ],
)
def test_the_command_line_ends_with_the_reason(support_folder, tmp_path, arguments, code, reason):
    done = run(
        "anomalib", "predict", "--model", "Sofs", *arguments, "--data", support_folder / "images", cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == code
    lines = (done.stdout + done.stderr).splitlines()
    assert len(lines) < 40
    last = "\n".join(lines[-10:])
    assert all(part in last for part in reason), last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sofs(threshold=1), "threshold=1 is not possible: 1 does not conform to restriction v>0 and v<1"),
        (lambda: Sofs(shot=0), "shot=0 is not possible: 0 does not conform to restriction v>0"),
        (lambda: Sofs(support="nope"), "support='nope' is not possible: the folder nope does not exist"),
        (lambda: Sofs(weights="nope.ckpt"), "weights='nope.ckpt' is not possible: the file nope.ckpt does not exist"),
        (lambda: Sofs(support_selection="last"), "support_selection='last' is not possible: choose one of 'first', "),
        (lambda: Sofs(head="best"), "head='best' is not possible: choose one of"),
        (lambda: FolderEpisodes("x", normal_crop_prob=2), "normal_crop_prob=2 is not possible"),
        (lambda: FolderEpisodes("x", crop_size=12.5), "crop_size=12.5 is not possible: 12.5 not an integer"),
        (lambda: SurfaceEpisodes("x", images_per_class=0), "images_per_class=0 is not possible"),
        (lambda: MVTecLike("x", eval_batch_size=0), "eval_batch_size=0 is not possible"),
    ],
)
def test_python_gets_the_same_refusal(make, message):
    with pytest.raises(ValueError, match="is not possible") as caught:
        make()
    assert str(caught.value).startswith(message)


def test_values_of_the_command_line_are_saved_plain(products, tmp_path):
    run(
        "anomalib", "fit", "--model", "Sofs", "--model.threshold", "0.7", "--model.shot", "2", "--model.layers",
        "[0,1,2,3,4]", "--model.lr", "0.001", "--data", "MVTecADEpisodes", "--data.root", products,
        "--data.base_categories", "[casting_0]", "--data.novel_categories", "[wood_0]", "--data.crop_size", "64",
        "--data.episodes_per_epoch", "4", "--data.num_workers", "0", "--trainer.accelerator", "cpu", cwd=tmp_path,
    )  # fmt: skip
    path = next(tmp_path.rglob("*.ckpt"))
    values = torch.load(path, weights_only=True)["hyper_parameters"]
    assert {name: values[name] for name in ("threshold", "shot", "layers", "lr", "support")} == {
        "threshold": 0.7, "shot": 2, "layers": [0, 1, 2, 3, 4], "lr": 0.001, "support": None,
    }  # fmt: skip
    assert [type(values[name]) for name in ("threshold", "shot", "lr")] == [float, int, float]
    assert Sofs.load_from_checkpoint(path).shot == 2


def test_restricted_types_of_a_parser_are_saved_plain():
    model = Sofs(threshold=OpenUnitInterval(0.7), shot=PositiveInt(2), support_seed=NonNegativeInt(3))
    assert [type(model.hparams[name]) for name in ("threshold", "shot", "support_seed")] == [float, int, int]
