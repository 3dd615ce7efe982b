"""The section `model` of a configuration: the net, and the weights that it starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from keras_resnet.nets.spec import with_fixup_as_norm

from .fields import ABOVE_0, Section, setting


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The net."""

    section: ClassVar[str] = "model"

    name: str = setting(
        "cifar_resnet20",
        "Name of the net, one of `keras_resnet.variants`; with `weights`, `auto` takes theirs.",
    )
    spec: Mapping[str, Any] = setting({}, "Fields of the `ResNetSpec` that differ from the net's.")
    stacked: bool | None = setting(
        None,
        "Trace units that are alike once: a deep net then starts sooner. By default for nets of "
        "300 layers or more.",
        option="--stacked",
    )
    weights: str | None = setting(
        None,
        "Weights to start from, to fine-tune them: a published name, a file or a folder, "
        "`hf://owner/repository`, or a run. By default the net starts from random weights.",
        option="--weights",
        metavar="SOURCE",
    )
    freeze: str | None = setting(
        None,
        "Keep the stem and the first N stages of `weights` as they are, their norms too; `all` "
        "trains the classifier only.",
        option="--freeze",
        metavar="N|all",
    )
    head_std: float | None = setting(
        None,
        "Standard deviation of the classifier's initial kernel, drawn from a normal distribution. "
        "By default its initial weights are uniform (Glorot and Bengio 2010).",
        ABOVE_0,
    )

    def __post_init__(self) -> None:
        """Checks the fields; configurations of earlier versions have Fixup as a merge."""
        super().__post_init__()
        if self.name == "auto" and self.weights is None:
            raise ValueError("`model.name` can be 'auto' only with `model.weights`")
        if self.freeze is not None:
            self._check_freeze(self.freeze)
        object.__setattr__(self, "spec", with_fixup_as_norm(self.spec))

    def _check_freeze(self, freeze: str) -> None:
        if freeze != "all" and not freeze.isdecimal():
            raise ValueError(
                "`model.freeze` must be 'all' or a number of stages, 0 for the stem alone. "
                f"Received: model.freeze={freeze!r}"
            )
        if self.weights is None:
            raise ValueError(
                "`model.freeze` needs `model.weights`: random weights would stay random. "
                f"Received: model.freeze={freeze!r}"
            )
