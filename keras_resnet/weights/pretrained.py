"""Nets with published weights: built by `from_pretrained`, or an existing net filled by `load`."""

from __future__ import annotations

import os
from typing import Any

from keras_resnet.nets.model import ResNet
from keras_resnet.nets.named_weights import classifier_of
from keras_resnet.nets.network import build
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.weights.recognize import recognize, same_shapes
from keras_resnet.weights.resolve import Path, Weights, check_function, open_weights
from keras_resnet.weights.resolve import names_source as names_source
from keras_resnet.weights.saved_nets import load_saved, stored_spec
from keras_resnet.weights.transfer import LoadReport, load_tensors


def from_pretrained(
    name: Path | Weights,
    /,
    net: str | ResNetSpec | None = None,
    *,
    include_top: bool = True,
    classifier_activation: Any = None,
    **form: Any,
) -> ResNet:
    """Builds the net that published weights belong to, with these weights.

    Args:
        name: As for `open_weights`: a path, a published name, or `hf://owner/repository`; or the
            result of `open_weights`.
        net: The net, for published names: `from_pretrained("torchvision/v2", "resnet50")`.
        include_top: Whether the net ends in the classifier.
        classifier_activation: Activation of the classifier; None returns logits.
        **form: Further arguments of `build`: `input_shape`, `pooling`, `features`, `name`.

    Returns:
        The net; its `preprocess` is the preprocessing that the weights were evaluated with.

    Raises:
        DownloadError: If a file cannot be downloaded.
        FileNotFoundError: If a path does not exist.
        ValueError: If the weights belong to a net that this package does not build, or have no
            classifier although the top is requested.

    Example:
        >>> model = keras_resnet.from_pretrained("akamaster", "cifar_resnet20")
        >>> images = np.zeros((8, 32, 32, 3), "uint8")  # RGB, 0..255
        >>> logits = model.predict(model.preprocess(images))  # (8, 10)
    """
    if "classes" in form:
        raise ValueError(
            "The weights determine the number of classes; for another head, use "
            f"`keras_resnet.finetune.with_classes`. Received: classes={form['classes']!r}"
        )
    top = include_top and not form.get("features")
    head = {"include_top": include_top, "classifier_activation": classifier_activation}
    if not isinstance(name, Weights):
        saved = stored_spec(os.fspath(name))
        if saved is not None:  # a `.keras` file of this package
            model = build(saved, **head, **form)
            load_saved(model, os.fspath(name), strict=True)
            return model
        name = open_weights(name, net=net, include_top=top)
    if top and name.classes is None:
        raise ValueError(f"{name.name} has no classifier: use `include_top=False`")
    model = build(name.spec, classes=name.classes or name.spec.classes, **head, **form)
    apply(model, name)
    return model


def load(model: ResNet, path: Path, *, strict: bool = True) -> LoadReport:
    """Loads a file of weights, of this package or of another library, into a net.

    `.keras` and `.weights.h5` files of this package's nets are loaded by layer name. Files of
    other libraries (safetensors; PyTorch's `.pth`, `.th`, `.bin`; Keras's HDF5) are recognised by
    their tensors. Nothing in a PyTorch file is executed, and PyTorch is not needed.

    Args:
        model: A net made by `build`.
        path: The file.
        strict: Whether missing, unexpected or misshaped tensors are an error.

    Returns:
        The tensors that were loaded, and those that did not fit.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file has another format, is damaged or hostile, or belongs to another
            net, or to a net of the same shapes that its library computes differently. The model
            is unchanged then.

    Example:
        >>> model = keras_resnet.build("resnet50_v1_5")
        >>> report = keras_resnet.weights.load(model, "resnet50-0676ba61.pth")
        >>> report.complete
        True
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No weights file at {path!r}")
    report = load_saved(model, path, strict=strict)
    if report is not None:
        return report
    weights = open_weights(path)
    if same_shapes(model.spec, weights.spec):
        check_function(model.spec, recognize(weights.tensors, source=path), path)
    return apply(model, weights, strict=strict)


def apply(model: ResNet, weights: Weights, *, strict: bool = True) -> LoadReport:
    """Sets a net's weights and preprocessing.

    Raises:
        ValueError: If they do not fit; names the nets that have their shapes.
    """
    _check_head(model, weights)
    try:
        report = load_tensors(
            model, weights.tensors, weights.layout, source=weights.name, strict=strict
        )
    except ValueError as error:
        fitting = recognize(weights.tensors, source=weights.name).variants
        if not fitting or model.spec.name in fitting:
            raise
        raise ValueError(f"{error}. Nets of these shapes: {', '.join(fitting)}") from error
    if weights.preprocess is not None:
        model.preprocess = weights.preprocess
    return report


def _check_head(model: ResNet, weights: Weights) -> None:
    head = classifier_of(model)
    if head is None or weights.classes in (None, head.units):
        return
    raise ValueError(
        f"{weights.name} has {weights.classes} classes, the net {head.units}: build "
        "it with `include_top=False`, or with the weights' classes, and give it another head by "
        "`keras_resnet.finetune.with_classes`"
    )
