"""Loading Keras models from files and folders without running code that is stored in them."""

from __future__ import annotations

import importlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

from converters.keras import keras
from zobnn_edge.errors import InputError, ModelError


def load_keras(path: str | os.PathLike[str]) -> Any:
    """The Keras model in a file or folder; layers that hold code are refused before it is unpacked.

    Raises InputError when there is no such file and ModelError when Keras cannot load it.
    """
    tf, _ = keras()
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    if path.suffix not in (".keras", ".h5", ".hdf5") and not (path / "saved_model.pb").exists():
        raise ModelError(f"{path}: not a Keras model; it must be a .keras or .h5 file or a SavedModel folder")

    class Lambda(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]  # tf is Any
        """Takes the place of Keras's own, which would unpack Python code."""

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            raise _lambda_refusal(config)

    importlib.import_module("zobnn_edge.zoo.layers")  # tells Keras the layers of the zoo
    try:
        if path.suffix == ".keras":  # Keras refuses code in these files itself, but not by name
            with zipfile.ZipFile(path) as archive:
                _refuse_lambdas(json.loads(archive.read("config.json")))
        return tf.keras.models.load_model(path, custom_objects={"Lambda": Lambda}, compile=False)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except Exception as error:  # Keras raises anything from OSError to its own; the first line says what
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: Keras cannot load it ({reason}); load it yourself and pass the model") from None


def _refuse_lambdas(config: Any) -> None:
    if isinstance(config, dict) and config.get("class_name") == "Lambda":
        raise _lambda_refusal(config.get("config", {}))
    if isinstance(config, (dict, list)):
        for part in config.values() if isinstance(config, dict) else config:
            _refuse_lambdas(part)


def _lambda_refusal(config: dict[str, Any]) -> ModelError:
    return ModelError(f"layer {config.get('name')!r} (Lambda): holds code, which is not run; replace it by a layer")
