"""Nets with published weights: built by `from_pretrained`, or an existing net filled by `load`."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from typing import Any

from keras_resnet.nets.catalog import get_spec
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.named_weights import classifier_of
from keras_resnet.nets.network import build
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.weights.opened import Net
from keras_resnet.weights.recognize import check_function, recognize, same_shapes
from keras_resnet.weights.resolve import Path, Weights, open_weights
from keras_resnet.weights.resolve import names_source as names_source
from keras_resnet.weights.saved_nets import SavedNet, assign_saved, load_saved, read_saved
from keras_resnet.weights.transfer import LoadReport, head_tensors, load_tensors
from keras_resnet.weights.unwrap import count_left_out


def from_pretrained(
    name: Path | Mapping[str, Any] | Weights,
    /,
    net: Net | None = None,
    *,
    include_top: bool = True,
    classifier_activation: Any = None,
    prefix: str | None = None,
    **form: Any,
) -> ResNet:
    """Builds the net that published weights belong to, with these weights.

    Args:
        name: As for `open_weights`: a path, a published name, `hf://owner/repository` or a state
            dict; or the result of `open_weights`.
        net: The net, for published names: `from_pretrained("torchvision/v2", "resnet50")`. For
            files, the net or the fields that the file does not show and that differ from its
            library's: `from_pretrained("caffe.pth", {"stride_placement": "1x1"})`.
        include_top: Whether the net ends in the classifier.
        classifier_activation: Activation of the classifier; None returns logits.
        prefix: The prefix of the net's tensors, if the file holds several nets.
        **form: Further arguments of `build`: `input_shape`, `pooling`, `features`, `name`.

    Returns:
        The net; its `preprocess` is the preprocessing that the weights were evaluated with.

    Raises:
        DownloadError: If a file cannot be downloaded.
        FileNotFoundError: If a path does not exist.
        ValueError: If the weights belong to a net that this package does not build, or have no
            classifier although the top is requested.

    Warns:
        UserWarning: If the file holds more than the net, or does not show all that the net
            computes; states what was left out and what was assumed.

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
        path = None if isinstance(name, Mapping) else os.fspath(name)
        saved = None if path is None else read_saved(path, prefix=prefix)
        if path is not None and saved is not None:
            spec = _saved_spec(saved, path, net)
            if top and saved.classes is None:
                raise ValueError(_no_classifier(repr(path), saved.others))
            spec = spec.replace(input_channels=saved.channels)
            if saved.classes is not None:
                spec = spec.replace(classes=saved.classes)
            if saved.dims != 2:
                form.setdefault("dims", saved.dims)
            model = build(spec, **head, **form)
            report = assign_saved(model, saved, path, strict=True)
            _warn(repr(path), report)
            return model
        name = open_weights(name, net=net, include_top=top, prefix=prefix)
    if top and name.classes is None:
        raise ValueError(_no_classifier(name.name, _head_of(name)))
    if name.dims != 2:
        form.setdefault("dims", name.dims)
    spec = name.spec
    if spec.input_channels != name.channels:
        spec = spec.replace(input_channels=name.channels)
    model = build(spec, classes=name.classes or spec.classes, **head, **form)
    fill(model, name)
    return model


def fill(model: ResNet, source: Path | Weights) -> None:
    """Loads all weights of a net; warns once of everything else that the source holds.

    Raises:
        ValueError: If they do not fit.
    """
    if isinstance(source, Weights):
        _warn(source.name, apply(model, source), _own_head(source))
        _warn_of_assumptions(source, model.spec)
    else:
        _warn(repr(os.fspath(source)), load(model, source))


def _own_head(weights: Weights) -> str | None:
    """Returns the beginning of the names of a classifier's tensors; None if there is none."""
    if weights.classes is None:
        return None
    return f"{weights.layout.translate('logits', weights.spec)}{weights.layout.separator}"


def _saved_spec(saved: SavedNet, path: str, net: Net | None) -> ResNetSpec:
    if net is not None and not isinstance(net, Mapping):
        return get_spec(net)
    if saved.spec is None:
        raise ValueError(
            f"{path!r} holds the weights of a net of this package but does not say which: "
            "give its name or spec as `net`"
        )
    return saved.spec.replace(**(net or {}))


def _head_of(weights: Weights) -> dict[str, int]:
    names = head_tensors(weights.tensors)
    shapes = {f"{name} {tuple(weights.tensors[name].shape)}": 1 for name in names}
    return shapes or dict(weights.left_out)


def _no_classifier(name: str, head: Mapping[str, int]) -> str:
    listed = ", ".join(list(head)[:6])
    described = f" of one dense layer; beside the body it holds {listed}" if listed else ""
    return f"{name} has no classifier{described}: use `include_top=False` to read the body"


def _warn(name: str, report: LoadReport, own_head: str | None = "logits") -> None:
    """Warns once of everything in a file that does not belong to the net.

    Args:
        name: Name of the source.
        report: The result of loading it.
        own_head: The beginning of the names of the net's own classifier, which a net without the
            top leaves out.
    """
    counts = dict(report.outside)
    for tensor in report.left_out:
        if own_head is None or not tensor.startswith(own_head):
            group = tensor.replace("/", ".").split(".")[0]
            counts[group] = counts.get(group, 0) + 1
    if counts:
        place = f" (prefix {report.prefix!r})" if report.prefix else ""
        message = f"{name}: the net was loaded{place}; left out {count_left_out(counts)}"
        warnings.warn(message, stacklevel=4)


def _warn_of_assumptions(source: Weights, spec: ResNetSpec) -> None:
    """Warns once of the fields that a file does not show and that no net determines."""
    if source.assumed:
        values = ", ".join(f"{field}={getattr(spec, field)!r}" for field in source.assumed)
        several = "property" if len(source.assumed) == 1 else "properties"
        warnings.warn(
            f"{source.name} does not show {len(source.assumed)} {several} of its net, which were "
            f"taken from the custom of {source.layout.library} (name the net if they differ): "
            f"{values}",
            stacklevel=4,
        )


def load(
    model: ResNet,
    path: Path | Mapping[str, Any],
    *,
    strict: bool = True,
    prefix: str | None = None,
    allow_nonfinite: bool = False,
) -> LoadReport:
    """Loads a file of weights, of this package or of another library, into a net.

    `.keras` and `.weights.h5` files of this package's nets are loaded by layer name. Files of
    other libraries (safetensors; PyTorch's `.pth`, `.th`, `.bin`; Keras's HDF5) are recognised by
    their tensors. Nothing in a PyTorch file is executed, and PyTorch is not needed.

    Args:
        model: A net made by `build`.
        path: The file or folder; or a state dict: a mapping of names to arrays or tensors.
        strict: Whether missing, unexpected or misshaped tensors are an error.
        prefix: The prefix of the net's tensors, if the file holds several nets.
        allow_nonfinite: Whether to load weights that are NaN or infinite.

    Returns:
        The tensors that were loaded, and those that did not fit. What the file does not show, such
        as the place of the strides, is the model's, and is listed as `explicit`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file has another format, is damaged or hostile, has values that are not
            finite, or belongs to another net, or to a net of the same shapes that its library
            computes differently. The model is unchanged then.

    Warns:
        UserWarning: If the library that the tensors are named for has no net like `model`.

    Example:
        >>> model = keras_resnet.build("resnet50_v1_5")
        >>> report = keras_resnet.weights.load(model, "resnet50-0676ba61.pth")
        >>> report.complete
        True
    """
    if isinstance(path, Mapping):
        weights = open_weights(path, prefix=prefix)
    else:
        path = os.fspath(path)
        if not os.path.exists(path):
            raise FileNotFoundError(f"No weights file at {path!r}")
        report = load_saved(
            model, path, strict=strict, prefix=prefix, allow_nonfinite=allow_nonfinite
        )
        if report is not None:
            return report
        weights = open_weights(path, prefix=prefix)
    if same_shapes(model.spec, weights.spec):
        recognized = recognize(weights.tensors, source=weights.name)
        recognized = dataclasses.replace(recognized, spec=weights.spec)
        check_function(model.spec, recognized, weights.name, weights.assumed)
        weights = dataclasses.replace(weights, assumed=(), explicit=weights.assumed)
    return apply(model, weights, strict=strict, allow_nonfinite=allow_nonfinite)


def apply(
    model: ResNet, weights: Weights, *, strict: bool = True, allow_nonfinite: bool = False
) -> LoadReport:
    """Sets a net's weights and preprocessing.

    Raises:
        ValueError: If they do not fit; names the nets that have their shapes.
    """
    _check_head(model, weights, strict=strict)
    try:
        report = load_tensors(
            model,
            weights.tensors,
            weights.layout,
            source=weights.name,
            strict=strict,
            allow_nonfinite=allow_nonfinite,
        )
    except ValueError as error:
        fitting = recognize(weights.tensors, source=weights.name).variants
        if not fitting or model.spec.name in fitting:
            raise
        raise ValueError(f"{error}. Nets of these shapes: {', '.join(fitting)}") from error
    if weights.preprocess is not None:
        model.preprocess = weights.preprocess
    return dataclasses.replace(
        report,
        prefix=weights.prefix,
        outside=weights.left_out,
        assumed=weights.assumed,
        explicit=weights.explicit,
    )


def _check_head(model: ResNet, weights: Weights, *, strict: bool) -> None:
    head = classifier_of(model)
    if strict and head is not None and weights.classes is None and _head_of(weights):
        raise ValueError(_no_classifier(weights.name, _head_of(weights)))
    if head is None or weights.classes in (None, head.units):
        return
    raise ValueError(
        f"{weights.name} has {weights.classes} classes, the net {head.units}: build "
        "it with `include_top=False`, or with the weights' classes, and give it another head by "
        "`keras_resnet.finetune.with_classes`"
    )
