"""Which sub-folders are splits and which are classes, by their names."""

from mlx_gmvae.data.arrangement import arrange
from mlx_gmvae.errors import InputError

import pytest


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Test"),
        ("Training", "Testing"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("training_set/training_set", "test_set/test_set"),
        ("train", "validate"),
        ("TRAIN", "DEV"),
        ("train", "eval"),
        ("train2017", "val2017"),
        ("trainset", "test_images"),
        ("fruits-360/Training", "fruits-360/Test"),
    ],
)
def test_splits_by_their_usual_names(train: str, test: str) -> None:
    names = [f"{train}/{each}/a.png" for each in ("cat", "dog")] + [f"{test}/dog/b.png"]
    found = arrange(names)
    assert found.is_test.tolist() == [False, False, True]
    assert found.class_names == ("cat", "dog") and found.labels is not None
    assert found.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("seg_train/cat seg_test/cat seg_pred", "splits .seg_test, seg_train. and .*seg_pred"),
        ("train/cat train/dog unlabeled", "splits .train. and other folders .unlabeled.; move"),
        ("Training/a Test/a papers", "splits .Test, Training. and other folders .*papers"),
        ("train val .", "not in the folder of a split .train, val.; move"),
    ],
)
def test_what_lies_beside_the_splits_is_named(folders: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        arrange([f"{folder}/{number}.png".removeprefix("./")
                 for folder in folders.split() for number in range(2)])  # fmt: skip


@pytest.mark.parametrize(
    "folders", ["bus car train", "test_tube train", "test val", "exam training"]
)
def test_classes_may_be_called_like_splits(folders: str) -> None:
    found = arrange([f"{folder}/{number}.png" for folder in folders.split() for number in range(9)])
    assert found.class_names == tuple(folders.split())
