"""Downloads of published data sets: verified, kept, and refused when they are wrong."""

import gzip
import platform
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from mlx_gmvae.data import published
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.downloads import MIRROR_VARIABLE, DownloadError, fetch
from mlx_gmvae.data.published import read_mnist
from mlx_gmvae.errors import InputError

import pytest
from idx_files import IMAGES, LABELS, digests, idx_bytes, require_parts, write_set


@pytest.fixture
def tiny_mnist(monkeypatch: pytest.MonkeyPatch, server: tuple[str, Path]) -> Path:
    """A server in the place of MNIST's, with the digests of what it should serve."""
    address, folder = server
    write_set(folder)
    entry = published.Published((address,), digests(), read_mnist, suffix=".gz")
    monkeypatch.setitem(published.PUBLISHED, "mnist", entry)
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    return folder


def test_published_set_is_downloaded_verified_and_cached(tiny_mnist: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    require_parts(load_dataset("mnist", cache))
    assert len(list((cache / "mnist").iterdir())) == 4  # and no temporary files
    for path in tiny_mnist.iterdir():
        path.unlink()
    require_parts(load_dataset("mnist", cache))


def test_a_wrong_download_is_not_kept(tiny_mnist: Path, tmp_path: Path) -> None:
    wrong = gzip.compress(idx_bytes(IMAGES[:14][::-1].copy()))
    (tiny_mnist / "train-images-idx3-ubyte.gz").write_bytes(wrong)
    with pytest.raises(DownloadError, match="is not the published one"):
        load_dataset("mnist", tmp_path / "cache")
    assert not list((tmp_path / "cache" / "mnist").iterdir())


def test_a_wrong_file_in_the_cache_is_named(tiny_mnist: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "mnist")
    path = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(LABELS[14:][::-1].copy())))
    with pytest.raises(InputError, match=r"t10k-labels.*wrong SHA-256"):
        load_dataset("mnist", tmp_path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match="damaged"):
        load_dataset("mnist", tmp_path)


def test_files_directly_in_data_dir_are_found_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path)
    monkeypatch.setitem(
        published.PUBLISHED, "mnist", published.Published((), digests(), read_mnist, suffix=".gz")
    )
    require_parts(load_dataset("mnist", tmp_path))
    with pytest.raises(DownloadError):  # the same file names, but not Fashion-MNIST's content
        monkeypatch.setenv(MIRROR_VARIABLE, "http://127.0.0.1:9")
        load_dataset("fashion-mnist", tmp_path)


def test_fetch_tries_the_next_mirror_and_says_why_all_failed(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = server
    (folder / "there").write_bytes(b"content")
    path = tmp_path / "got" / "file"
    fetch(["http://127.0.0.1:9/closed", address + "absent", address + "there"], path)
    assert path.read_bytes() == b"content"
    for bad, reason in [("absent", "not found"), ("broken", "broke")]:
        with pytest.raises(DownloadError, match=reason):
            fetch([address + bad], tmp_path / "got" / "other")
    with pytest.raises(DownloadError, match="larger"):
        fetch([address + "there"], tmp_path / "got" / "other", largest_bytes=3)
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_real_mnist(data_dir: str) -> None:
    train, test = load_dataset("mnist", data_dir)
    assert train.images.shape == (60000, 28, 28, 1) and test.images.shape == (10000, 28, 28, 1)
    assert test.labels is not None and test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    subset, _ = load_dataset(f"{data_dir}/mnist", classes=["1", "4", "8"])
    assert len(subset) == 18435


@pytest.fixture
def untrusted_server(tmp_path: Path) -> Iterator[str]:
    """A real HTTPS server on loopback whose certificate nobody has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            pass

    with Quiet(("127.0.0.1", 0), SimpleHTTPRequestHandler) as httpd:
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("system", "remedy"),
    [("Darwin", "/Install Certificates.command"), ("Linux", "install ca-certificates, or set SSL")],
)
def test_where_no_certificate_can_be_verified_the_remedy_is_named(
    untrusted_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, remedy: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    with pytest.raises(DownloadError) as refused:
        fetch([untrusted_server + "file"], tmp_path / "got/file")
    message = str(refused.value)
    assert "cannot be verified, self" in message and remedy in message and "\n" not in message
    assert list((tmp_path / "got").iterdir()) == []
