"""Features of the images on the command line, from a frozen encoder or from a file."""

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
    """Return images with the features that --features names, and their encoder (None: a file).

    Raises InputError.
    """
    if not names_encoder(name):
        return load_features(name, splits), None
    encoder = load_encoder(name)
    return _seen_by(encoder, splits, data_dir), encoder.id.to_dict()


def as_trained(
    loaded: ModelFile, name: str | None, splits: Splits, data_dir: str | None, file: str
) -> Splits:
    """Return images with the features that a trained model needs, or unchanged if it needs none.

    `name` is the value of --features, or None. Raises InputError if it is not the encoder that the
    model was trained with, or if there is no encoder.
    """
    config = loaded.model.config
    if config.classifier != "features":
        if name:
            raise InputError(f"--features has no effect: {file} was trained without features")
        return splits
    wanted = loaded.data.get("encoder")
    if wanted is None and name is None:
        raise InputError(
            f"{file} was trained on features from a file; give the features of these images with "
            "--features FILE"
        )
    if wanted is None:
        assert name is not None
        if names_encoder(name):
            raise InputError(
                f"{file} was trained on features from a file, not on those of {name}; give the "
                "features of these images with --features FILE"
            )
        found = load_features(name, splits)
    else:
        found = _seen_by(_same_encoder(EncoderId.from_dict(wanted), name), splits, data_dir)
    features = found.train.features
    if features is not None and features.shape[1] != config.feature_dims:
        raise InputError(
            f"{name} has {features.shape[1]} features of each image, but {file} needs "
            f"{config.feature_dims}"
        )
    return found


def as_before(source: DatasetSpec, name: str, splits: Splits, data_dir: str | None) -> Splits:
    """Return the images of a resumed run with their features. Raises InputError."""
    if source.encoder is None:
        return load_features(name, splits)
    wanted = EncoderId.from_dict(source.encoder)
    return _seen_by(_same_encoder(wanted, name), splits, data_dir)


def _same_encoder(wanted: EncoderId, name: str | None) -> Encoder:
    """Load the encoder `wanted`, from the place `name` if given; raise InputError if it differs."""
    if name is None:
        return load_same(wanted)
    if not names_encoder(name):
        raise InputError(f"{name} is not an encoder; give {wanted}, or the folder that contains it")
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
