"""Features for images on the command line: of a frozen encoder, or from a file."""

import dataclasses
from typing import Any

from ..clustering.features import load_features
from ..data.dataset_spec import DatasetSpec
from ..data.splits import Splits
from ..encoders.encode import features_of
from ..encoders.encoder import Encoder, EncoderId, load_encoder, load_same, require_same
from ..encoders.find import names_encoder
from ..errors import InputError
from ..runs.checkpoint import ModelFile


def load_seen(name: str, splits: Splits, data_dir: str | None) -> tuple[Splits, Any]:
    """Return images with what --features says of them, and which encoder that is (None: a file).

    Raises InputError.
    """
    if not names_encoder(name):
        return load_features(name, splits), None
    encoder = load_encoder(name)
    return _seen_by(encoder, splits, data_dir), encoder.id.to_dict()


def as_trained(
    loaded: ModelFile, name: str | None, splits: Splits, data_dir: str | None, file: str
) -> Splits:
    """Return images with the features that a trained model's q(y|x) takes; others stay as they are.

    `name` is that of --features, if it was given. Raises InputError if it is not the encoder that
    the model was trained with, or if there is none.
    """
    config = loaded.model.config
    if config.classifier != "features":
        if name:
            raise InputError(f"--features has no effect: q(y|x) of {file} sees pixels")
        return splits
    wanted = loaded.data.get("encoder")
    if wanted is None and name is None:
        raise InputError(
            f"q(y|x) of {file} sees features from a file; give those of these images by --features"
        )
    if wanted is None:
        assert name is not None
        if names_encoder(name):
            raise InputError(f"{file} was trained with features from a file, not by {name}")
        found = load_features(name, splits)
    else:
        found = _seen_by(_same_encoder(EncoderId.from_dict(wanted), name), splits, data_dir)
    features = found.train.features
    if features is not None and features.shape[1] != config.feature_dims:
        raise InputError(
            f"{name} has {features.shape[1]} features of each image, {file} was made with "
            f"{config.feature_dims}"
        )
    return found


def as_before(source: DatasetSpec, name: str, splits: Splits, data_dir: str | None) -> Splits:
    """Return the images of a run that goes on with their features. Raises InputError."""
    if source.encoder is None:
        return load_features(name, splits)
    wanted = EncoderId.from_dict(source.encoder)
    return _seen_by(_same_encoder(wanted, name), splits, data_dir)


def _same_encoder(wanted: EncoderId, name: str | None) -> Encoder:
    """The encoder of some features, by the name it has here, or by its own."""
    if name is None:
        return load_same(wanted)
    if not names_encoder(name):
        raise InputError(f"{name} is no encoder; give {wanted}, or the folder where it is")
    encoder = load_encoder(name)
    require_same(encoder.id, wanted)
    return encoder


def _seen_by(encoder: Encoder, splits: Splits, data_dir: str | None) -> Splits:
    return Splits(
        *(
            dataclasses.replace(part, features=features_of(part, encoder, data_dir))
            if len(part)
            else part
            for part in splits
        )
    )
