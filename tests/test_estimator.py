"""The scikit-learn estimator: scikit-learn's own checks, images, tables, densities, pickles."""

import pickle
import pickletools
from typing import Any

from mlx_gmvae import GMVAEClusterer, estimator
from mlx_gmvae.data.splits import Splits
from mlx_gmvae.device.backend import on_gpu
from mlx_gmvae.models.gmvae import GMVAE
from mlx_gmvae.training import defaults

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

SMALL: dict[str, Any] = {
    "latent_dims": 2,
    "model_options": {"hidden_dims": 16},
    "train_options": {"heads": 2},
    "random_state": 0,
}
BLOBS, KINDS = make_blobs(120, centers=[[0, 0], [5, 50], [10, 0]], cluster_std=1, random_state=0)


QUICK = {"max_iter": 3, "learning_rate": 2e-2, "batch_size": 16}


@parametrize_with_checks([GMVAEClusterer(3, **{**SMALL, **QUICK, "random_state": None})])
def test_scikit_learns_own_checks(estimator: GMVAEClusterer, check: Any) -> None:
    check(estimator)


def test_defaults_number_the_clusters_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEWEST_STEPS", "FEWEST_SMALL_STEPS"):
        monkeypatch.setattr(defaults, name, 30)
    labels = GMVAEClusterer(random_state=0).fit_predict(BLOBS)
    found = np.unique(labels)
    np.testing.assert_array_equal(found, np.arange(len(found)))
    assert 3 <= len(found) < 10 and adjusted_rand_score(KINDS, labels) > 0.4


@pytest.mark.parametrize("model", ["gmvae", "vade"])
def test_components_in_use_come_first_everywhere(model: str) -> None:
    options: dict[str, Any] = {"random_state": 0, "latent_dims": 2, "max_iter": 6}
    options |= {"model": model, "learning_rate": 1e-2, "batch_size": 16}
    clusterer = GMVAEClusterer(12, **options).fit(BLOBS)
    found = np.unique(clusterer.labels_)
    np.testing.assert_array_equal(found, np.arange(len(found)))
    assert len(found) < 12  # or nothing was tried
    np.testing.assert_array_equal(clusterer.predict(BLOBS), clusterer.labels_)
    np.testing.assert_array_equal(clusterer.predict_proba(BLOBS).argmax(axis=1), clusterer.labels_)
    centres = np.array(clusterer.model_.component_latents())
    np.testing.assert_allclose(
        clusterer.inverse_transform(centres), clusterer.cluster_centers_, rtol=1e-4
    )


def test_clusters_without_gaps_keep_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(GMVAE, "permute_components", lambda *given: called.append(given))
    options = {**SMALL, "max_iter": 3, "learning_rate": 1e-2, "batch_size": 16}
    clusterer = GMVAEClusterer(3, **options).fit(BLOBS)
    assert set(clusterer.labels_) == {0, 1, 2} and not called


@pytest.fixture(scope="module")
def of_blobs() -> GMVAEClusterer:
    options = SMALL | {"train_options": {"heads": 3}}
    return GMVAEClusterer(3, max_iter=40, learning_rate=1e-2, **options).fit(BLOBS)


def test_a_table_is_clustered_whatever_its_units(of_blobs: GMVAEClusterer) -> None:
    # So short a training depends on rounding and on the order of draws: 0.86 on an H200.
    assert adjusted_rand_score(KINDS, of_blobs.labels_) > (0.8 if on_gpu() else 0.95)
    np.testing.assert_array_equal(of_blobs.predict(BLOBS), of_blobs.labels_)
    assert of_blobs.predict(of_blobs.cluster_centers_).tolist() == [0, 1, 2]
    back = of_blobs.inverse_transform(of_blobs.transform(BLOBS))
    assert (np.abs(back.mean(axis=0) - BLOBS.mean(axis=0)) < BLOBS.std(axis=0) / 2).all()
    assert on_gpu() or np.corrcoef(back[:, 1], BLOBS[:, 1])[0, 1] > 0.95


def test_scores_are_a_density_in_the_tables_own_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of importance weights is unbiased, and so the density integrates to 1."""
    monkeypatch.setattr(estimator, "LIKELIHOOD_DRAWS", 100)
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(100, 4, 150), rng.normal(160, 8, 150)])[:, None]
    options = SMALL | {"train_options": {"pair_weight": 0.0}, "latent_dims": 1}
    clusterer = GMVAEClusterer(2, max_iter=8, learning_rate=3e-2, **options).fit(X)
    grid, step = np.linspace(20, 260, 81, retstep=True)
    before = np.array(mx.random.state[0])  # type: ignore[index]
    total = float(np.exp(clusterer.score_samples(grid[:, None])).sum() * step)
    assert total == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(np.array(mx.random.state[0]), before)  # type: ignore[index]
    assert clusterer.score(X) >= clusterer.lower_bound_ - 0.1
    samples, components = clusterer.sample(400)
    assert samples.shape == (400, 1) and set(components) == {0, 1}
    assert samples.mean() == pytest.approx(X.mean(), abs=15)


def test_images_flat_or_not_are_the_same(digits: Splits) -> None:
    images = digits.train.images[:60, ..., 0]
    rows = images.reshape(60, 64)
    options = {**SMALL, "max_iter": 1, "model_options": {"arch": "mlp", "hidden_dims": 16}}
    whole = GMVAEClusterer(4, **options).fit(images)
    flat = GMVAEClusterer(4, image_shape=(8, 8), **options).fit(rows)
    np.testing.assert_array_equal(whole.labels_, flat.labels_)
    np.testing.assert_array_equal(
        whole.predict_proba(images / np.float32(255)), flat.predict_proba(rows)
    )
    assert whole.cluster_centers_.shape == (4, 8, 8) and flat.cluster_centers_.shape == (4, 64)
    assert whole.sample(5)[0].shape == (5, 8, 8)
    assert whole.inverse_transform(whole.transform(images)).min() >= 0
    with pytest.raises(ValueError, match=r"X has images of \(9, 9, 1\), but the model has images"):
        whole.predict(np.zeros((2, 9, 9)))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        flat.fit(load_digits().data)
    with pytest.raises(ValueError, match="rows of 64 numbers are not images of"):
        GMVAEClusterer(image_shape=(7, 8)).fit(rows)
    with pytest.raises(ValueError, match="image_shape is for flat rows"):
        GMVAEClusterer(image_shape=(8, 8)).fit(images)


@pytest.mark.usefixtures("few_words")
def test_pictures_with_alpha_come_back_without_and_may_be_fitted_again(digits: Splits) -> None:
    grey = digits.train.images[:60]
    with_alpha = np.concatenate([grey, grey, grey, np.full_like(grey, 255)], axis=-1)
    options = {**SMALL, "max_iter": 1, "model_options": {"arch": "mlp", "hidden_dims": 8}}
    clusterer = GMVAEClusterer(2, **options).fit(with_alpha)
    assert clusterer.cluster_centers_.shape == (2, 8, 8, 3)
    assert clusterer.predict(with_alpha[:5]).shape == (5,)
    flat = clone(clusterer).set_params(image_shape=(8, 8, 4)).fit(with_alpha.reshape(60, -1))
    assert flat.cluster_centers_.shape == (2, 8 * 8 * 3)
    np.testing.assert_array_equal(flat.labels_, clusterer.labels_)
    assert clusterer.fit(grey[:, :6, :, 0]).cluster_centers_.shape == (2, 6, 8)
    assert clusterer.fit(BLOBS).cluster_centers_.shape == BLOBS[:2].shape
    with pytest.raises(
        ValueError, match=r"X has images of .*, but the model takes rows of 2 numbers"
    ):
        clusterer.predict(grey)


def test_whole_numbers_in_rows_are_pixels(digits: Splits) -> None:
    rows = digits.train.images[:60].reshape(60, -1)
    options: dict[str, Any] = {"max_iter": 1, "latent_dims": 2, "random_state": 0}
    found = [
        GMVAEClusterer(2, image_shape=(8, 8), **options).fit(rows.astype(kind)).labels_
        for kind in (np.uint8, np.int64)
    ]
    np.testing.assert_array_equal(*found)


def test_a_fit_that_fails_leaves_what_was_fitted() -> None:
    clusterer = GMVAEClusterer(2, max_iter=1, **SMALL)
    with pytest.raises(ValueError, match=r"image_shape is \(\); it must be"):
        clusterer.set_params(image_shape=()).fit(BLOBS)
    with pytest.raises(NotFittedError):
        clusterer.predict(BLOBS)
    before = clusterer.set_params(image_shape=None).fit(BLOBS).predict_proba(BLOBS)

    def interrupted(record: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clusterer.set_params(callback=interrupted).fit(1000 * BLOBS)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        clusterer.fit(np.full((5, 7), np.nan))
    with pytest.raises(ValueError, match="n_components is 0"):
        clone(clusterer).set_params(n_components=0).fit(BLOBS)
    with pytest.raises(ValueError, match="n_components is 0"):
        clusterer.set_params(n_components=0).fit(np.zeros((5, 6)))
    assert clusterer.n_features_in_ == 2
    np.testing.assert_array_equal(clusterer.predict_proba(BLOBS), before)


def test_a_pickle_holds_the_bytes_of_an_npz_and_nothing_of_mlx(of_blobs: GMVAEClusterer) -> None:
    content = pickle.dumps(of_blobs)
    modules = {str(arg).split(" ")[0] for code, arg, _ in pickletools.genops(content)
               if code.name in ("GLOBAL", "SHORT_BINUNICODE", "BINUNICODE")}  # fmt: skip
    assert not {name for name in modules if name.split(".")[0] == "mlx"}
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.predict_proba(BLOBS), of_blobs.predict_proba(BLOBS))
    assert again.history_ == of_blobs.history_
    with pytest.raises(NotFittedError):
        clone(again).predict(BLOBS)


def test_it_takes_part_in_searches_and_pipelines() -> None:
    clusterer = GMVAEClusterer(max_iter=1, **SMALL)
    grid = {"n_components": np.arange(1, 4, 2), "learning_rate": np.array([1e-3], np.float32)}
    search = GridSearchCV(clusterer, grid, cv=2, error_score="raise").fit(BLOBS)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all() and scores[0] != scores[1]
    assert search.best_params_["n_components"] == (1, 3)[scores.argmax()]
    pipeline = make_pipeline(StandardScaler(), clone(clusterer).set_params(n_components=3))
    assert pipeline.fit_predict(BLOBS).shape == (120,)
    names = pipeline[-1].get_feature_names_out()
    assert list(names) == ["gmvaeclusterer0", "gmvaeclusterer1"]


def test_the_number_of_clusters_may_be_found(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = make_blobs(200, 4, centers=4, cluster_std=0.5, random_state=1)
    clusterer = GMVAEClusterer("auto", max_iter=3, learning_rate=1e-2, verbose=1, **SMALL).fit(X)
    assert clusterer.n_components_ == 4
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "finding the number of clusters: 250 steps before the training"
    assert any(line.startswith("K = 4: of 4 clusters") for line in others)
    assert adjusted_rand_score(y, clusterer.labels_) > 0.5


def test_a_callback_sees_every_epoch_and_can_end_the_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = []

    def enough(record: dict[str, float]) -> bool:
        seen.append(record["epoch"])
        return len(seen) == 2

    clusterer = GMVAEClusterer(3, max_iter=9, callback=enough, verbose=1, **SMALL).fit(BLOBS)
    assert seen == [1, 2] and clusterer.n_iter_ == 2
    assert capsys.readouterr().out.startswith("Epoch    1 | Loss ")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model": "vae"}, "has no components"),
        ({"model": "gmm"}, "choose one of"),
        ({"model": "gmave"}, "choose one of .*; did you mean gmvae"),
        ({"train_options": {"neighbors": 4}}, "has no field neighbors; did you mean neighbours"),
        ({"device": "tpu"}, "must be cpu, gpu or None"),
        ({"n_components": 0}, "^n_components is 0; it must be between 1 and"),
        ({"n_components": 2.5}, "^n_components is 2.5; it must be a whole number"),
        ({"n_components": True}, "^n_components is True; it must be a whole number"),
        ({"n_components": None}, "^n_components is None; give a whole number"),
        ({"max_iter": 0}, "^max_iter is 0; it must be between 1 and"),
        ({"max_iter": 1, "model": "vade"}, "^max_iter is 1; vade needs at least 2 epochs"),
        ({"max_iter": 2, "model": "vade", "n_components": 130}, "too few for n_components = 130"),
        ({"batch_size": 0}, "^batch_size is 0; it must be between 1 and"),
        ({"batch_size": 1}, "give more images or a larger batch_size"),
        ({"learning_rate": 0}, "^learning_rate is 0.0; it must be a number above 0"),
        ({"learning_rate": 1e30, "max_iter": 3}, "lower learning_rate or set clip_grad"),
        ({"random_state": -1}, "^random_state is -1; give a whole number"),
        ({"image_shape": 5}, r"^image_shape is 5; it must be \(H, W\)"),
        ({"image_shape": (1, 2.5)}, r"^image_shape is \(1, 2.5\); it must be"),
        ({"callback": 3}, "^callback is 3; give a function"),
        ({"model_options": [1]}, r"^model_options is \[1\]; it must be a dict"),
        ({"model_options": {"colour": 1}}, "^model_options has no field colour"),
        ({"train_options": {"neighbors": 1}}, "no field neighbors; did you mean neighbours?"),
        ({"model_options": {"K": 4}}, "model_options has K; give n_components instead"),
        ({"train_options": {"epochs": 4}}, "train_options has epochs; give max_iter instead"),
        ({"n_components": "auto", "model": "vade"}, "for a gmvae whose classifier"),
        (
            {"n_components": "auto", "train_options": {"pair_weight": 0.0}},
            "by neighbour pairs; give n_components a number",
        ),
    ],
)
def test_parameters_that_cannot_be_used_are_named(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GMVAEClusterer(**parameters).fit(BLOBS)


@pytest.mark.usefixtures("few_words")
def test_lists_of_images_are_images(digits: Splits) -> None:
    images = digits.train.images[:30, ..., 0]
    options: dict[str, Any] = {"max_iter": 1, "latent_dims": 2, "random_state": 0}
    options["model_options"] = {"arch": "mlp", "hidden_dims": 8}
    clusterer = GMVAEClusterer(2, **options).fit(images)
    pictures = [Image.fromarray(image) for image in images]
    for given in (list(images), images.tolist(), pictures, mx.array(images)):
        np.testing.assert_array_equal(clusterer.predict(given), clusterer.labels_)
    palettes = [picture.convert("RGB").quantize(8) for picture in pictures]
    colour = GMVAEClusterer(2, **options).fit(palettes)
    assert colour.cluster_centers_.shape == (2, 8, 8, 3)


GREY = np.zeros((8, 8), np.uint8)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (None, r"^X is None; give rows of numbers \(n, n_features\), or images \(n, H, W\) or"),
        ("photos", r"^X is of type str; .* mlx_gmvae.load_dataset\(path\)"),
        ({"a": 1}, "^X is of type dict; give rows"),
        ((row for row in BLOBS), "^X is of type generator; give rows"),
        ([], "^X has 0 samples; give at least 2"),
        (np.zeros((0, 4)), "^X has 0 samples"),
        (np.zeros((0, 8, 8)), "^X has 0 samples"),
        (GREY[None], "^X has 1 sample; give at least 2"),
        (np.zeros(8), r"^X has shape \(8,\); Reshape your data: X.reshape\(1, -1\)"),
        (np.zeros((2, 2, 2, 2, 2)), r"^X has shape \(2, 2, 2, 2, 2\) and type float64; give rows"),
        ([["a"], ["b"]], "^X has text instead of numbers; give rows"),
        (np.array([["a", 1]] * 3, object), "^X has text .*'a'"),
        ([None, None], r"^X has shape \(2,\) and type object; give rows"),
        ([[1, 2], [3]], "^X has rows of different lengths; give rows"),
        ([GREY, GREY[1:]], r"^X has images of different shapes: \(8, 8\) and, at 1, \(7, 8\)"),
        (Image.fromarray(GREY), "^X is of type Image; give a list of such images"),
        (np.ma.masked_less(BLOBS, 0), "^X: a masked array"),
    ],
)
def test_data_that_cannot_be_used_are_named(X: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        GMVAEClusterer(2).fit(X)
    assert "\n" not in str(caught.value)


def test_a_data_set_is_refused_with_what_to_give(digits: Splits) -> None:
    with pytest.raises(ValueError, match=r"^X is of type Dataset; give its images, X.images"):
        GMVAEClusterer(2).fit(digits.train)
    with pytest.raises(ValueError, match=r"give the images of one split, X.train.images"):
        GMVAEClusterer(2).fit(digits)


@pytest.mark.parametrize("n_samples", [0, -1, 2.5])
def test_samples_are_at_least_one(of_blobs: GMVAEClusterer, n_samples: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^n_samples is .*; it must be a whole number of at least"
    ):
        of_blobs.sample(n_samples)
    num: Any = np.int64(3)
    assert len(of_blobs.sample(num)[0]) == 3


def test_answers_for_a_table_do_not_depend_on_the_rows_beside(of_blobs: GMVAEClusterer) -> None:
    order = np.random.default_rng(0).permutation(len(BLOBS))
    for answer in (of_blobs.transform, of_blobs.predict_proba, of_blobs.score_samples):
        whole = answer(BLOBS)
        np.testing.assert_array_equal(answer(BLOBS[order]), whole[order])
        np.testing.assert_array_equal(answer(BLOBS[5:8]), whole[5:8])
