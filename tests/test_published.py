"""CIFAR-10 and Frey faces: archives of the published form, from a server and from a folder."""

import io
import tarfile
from pathlib import Path

import train
from mlx_gmvae.data import published
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.downloads import MIRROR_VARIABLE, DownloadError, sha256
from mlx_gmvae.data.published import CIFAR_ARCHIVE, CIFAR_CLASSES, CIFAR_FOLDER
from mlx_gmvae.errors import InputError

import numpy as np
import pytest
from conftest import largest_file
from sklearn.datasets import load_sample_images

NOWHERE = "http://127.0.0.1:9"  # a closed port: no download can succeed
BATCHES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
PER_BATCH = 4


def cifar_images() -> np.ndarray:
    """Real squares of a photograph, (24, 32, 32, 3)."""
    photo = load_sample_images().images[0]
    corners = [(32 * (number // 12), 32 * (number % 12)) for number in range(6 * PER_BATCH)]
    return np.stack([photo[top : top + 32, left : left + 32] for top, left in corners])


def cifar_files() -> dict[str, bytes]:
    """The six batches: a label byte, then a red, a green and a blue plane for each image."""
    images = cifar_images().transpose(0, 3, 1, 2).reshape(6, PER_BATCH, -1)
    labels = np.arange(6 * PER_BATCH, dtype=np.uint8).reshape(6, PER_BATCH, 1) % 10
    records = np.concatenate([labels, images], axis=2).astype(np.uint8)
    return dict(zip(BATCHES, (batch.tobytes() for batch in records), strict=True))


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR_FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def publish(monkeypatch: pytest.MonkeyPatch, archive: bytes, mirrors: tuple[str, ...] = ()) -> None:
    """Let this archive be what is published as CIFAR-10."""
    entry = published.PUBLISHED["cifar-10"]
    entry = entry._replace(mirrors=mirrors, digests={CIFAR_ARCHIVE: sha256(archive)})
    monkeypatch.setitem(published.PUBLISHED, "cifar-10", entry)
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


def test_cifar_is_downloaded_verified_and_cached(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served = server
    archive = archive_of(cifar_files())
    (served / CIFAR_ARCHIVE).write_bytes(archive)
    publish(monkeypatch, archive, (address,))
    splits = load_dataset("cifar-10", tmp_path / "cache")
    (served / CIFAR_ARCHIVE).unlink()
    again = load_dataset("cifar-10", tmp_path / "cache")
    images = cifar_images()
    for train_part, test_part in (splits, again):
        np.testing.assert_array_equal(train_part.images, images[:20])
        np.testing.assert_array_equal(test_part.images, images[20:])
        assert train_part.class_names == CIFAR_CLASSES
        assert test_part.labels is not None
        assert [CIFAR_CLASSES[label] for label in test_part.labels] == [
            "airplane", "automobile", "bird", "cat",
        ]  # fmt: skip
    assert [path.name for path in (tmp_path / "cache/cifar-10").iterdir()] == [CIFAR_ARCHIVE]
    dogs, _ = load_dataset("cifar-10", tmp_path / "cache", (16, 16), ["airplane", "dog"])
    assert dogs.image_shape == (16, 16, 3)
    assert dogs.labels is not None and set(dogs.labels) == {0, 5}


def test_a_download_without_room_leaves_nothing_and_succeeds_when_there_is_some(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    address, served = server
    archive = archive_of(cifar_files())
    (served / CIFAR_ARCHIVE).write_bytes(archive)
    publish(monkeypatch, archive, (address,))
    command = f"--dataset cifar-10 --data_dir {tmp_path}/kept --model vae --arch mlp --epochs 1"
    with largest_file(len(archive) // 2):
        assert train.main([*command.split(), "--outdir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "File too large" in error, error
    assert not list((tmp_path / "kept").rglob("*.*")) and not (tmp_path / "run").exists()
    assert len(load_dataset("cifar-10", tmp_path / "kept").train) == 20


def test_a_wrong_cifar_archive_is_refused(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served = server
    publish(monkeypatch, archive_of(cifar_files()), (address,))
    (served / CIFAR_ARCHIVE).write_bytes(b"something else")
    with pytest.raises(DownloadError, match="is not the published one"):
        load_dataset("cifar-10", tmp_path / "cache")
    assert not list((tmp_path / "cache/cifar-10").iterdir())
    (tmp_path / "cache/cifar-10" / CIFAR_ARCHIVE).write_bytes(b"something else")
    with pytest.raises(InputError, match="wrong SHA-256"):
        load_dataset("cifar-10", tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_batch.bin": b"short"}, "test_batch.bin is truncated"),
        ({"data_batch_2.bin": bytes([77]) * 3073}, "a label 77"),
        ({"test_batch.bin": None}, "not an archive of CIFAR-10's"),
    ],
)
def test_a_cifar_archive_of_other_content_is_named(
    change: dict[str, bytes | None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: content for name, content in (cifar_files() | change).items() if content}
    archive = archive_of(files)
    publish(monkeypatch, archive)
    (tmp_path / CIFAR_ARCHIVE).write_bytes(archive)
    with pytest.raises(InputError, match=message):
        load_dataset("cifar-10", tmp_path)


@pytest.mark.parametrize("place", [".", "cifar-10"])
def test_an_extracted_cifar_folder_is_read(place: str, tmp_path: Path) -> None:
    folder = tmp_path / place / CIFAR_FOLDER
    folder.mkdir(parents=True)
    for name, content in cifar_files().items():
        (folder / name).write_bytes(content)
    np.testing.assert_array_equal(
        load_dataset("cifar-10", tmp_path).test.images, cifar_images()[20:]
    )
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(InputError, match=r"cannot read .*data_batch_3.bin"):
        load_dataset("cifar-10", tmp_path)


@pytest.mark.parametrize(
    ("name", "file"), [("cifar-10", CIFAR_ARCHIVE), ("frey", "frey_rawface.mat")]
)
def test_offline_it_is_said_which_file_to_put_where(
    name: str,
    file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, NOWHERE)
    assert train.main(["--dataset", name, "--data_dir", str(tmp_path)]) == 2
    assert f"; put {file} into {tmp_path}/{name}\n" in capsys.readouterr().err


def test_a_damaged_frey_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "frey_rawface.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    monkeypatch.setenv(MIRROR_VARIABLE, NOWHERE)
    with pytest.raises(DownloadError):  # not Frey's, so not looked at
        load_dataset("frey", tmp_path)
    entry = published.PUBLISHED["frey"]._replace(digests={path.name: sha256(path.read_bytes())})
    monkeypatch.setitem(published.PUBLISHED, "frey", entry)
    with pytest.raises(InputError, match="does not hold Frey faces"):
        load_dataset("frey", tmp_path)


def test_real_frey_faces(data_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (Path(data_dir) / "frey" / "frey_rawface.mat").is_file():
        pytest.skip("there is no frey/frey_rawface.mat beside mnist/")
    splits = load_dataset("frey", data_dir)
    assert (len(splits.train), len(splits.test)) == (1572, 393)
    assert splits.train.image_shape == (28, 20, 1) and splits.train.labels is None
    # A face: neighbouring rows are alike, which they are not when read in the wrong order.
    faces = splits.test.images.astype(float)
    assert np.abs(np.diff(faces, axis=1)).mean() < 0.5 * faces.std()
    monkeypatch.setattr("mlx_gmvae.cli.train.evaluate", lambda run: None)
    options = f"--dataset frey --data_dir {data_dir} --model vae --arch mlp --epochs 1"
    options += " --hidden_dims 8"
    assert train.main([*options.split(), "--outdir", str(tmp_path / "run")]) == 0
