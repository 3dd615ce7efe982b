"""The named nets, as data: a variant is a `replace()` of another.

`VARIANTS` maps a name to its `ResNetSpec`. Families whose depth is free (`cifar_resnet{6n+2}`)
resolve for every depth, not only for those of the papers' tables.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterator, Mapping

from keras_resnet.spec import ResNetSpec

# He et al. 2015 (arXiv:1512.03385), Table 1 and section 4.1; 200 layers: He et al. 2016, Table 5.
# Bottlenecks stride in their first 1x1 as the paper's and keras.applications' do; "_v1_5" is the
# net of torchvision, timm and Goyal et al. 2017.
_R18 = ResNetSpec("resnet18", (2, 2, 2, 2), (64, 128, 256, 512))
_R50 = _R18.replace(
    name="resnet50", depths=(3, 4, 6, 3), branch="bottleneck", stride_placement="1x1"
)
_POST = (
    _R18,
    _R18.replace(name="resnet34", depths=(3, 4, 6, 3)),
    _R50,
    _R50.replace(name="resnet101", depths=(3, 4, 23, 3)),
    _R50.replace(name="resnet152", depths=(3, 8, 36, 3)),
    _R50.replace(name="resnet200", depths=(3, 24, 36, 3)),
)
_V1_5 = tuple(
    spec.replace(name=f"{spec.name}_v1_5", stride_placement="3x3")
    for spec in _POST
    if spec.branch == "bottleneck"
)
# He et al. 2016 (arXiv:1603.05027), full pre-activation; the stride stands in the 3x3.
_PRE = tuple(
    spec.replace(name=f"{spec.name}v2", order="pre", stride_placement="3x3") for spec in _POST
)

# He et al. 2015, section 4.2: 6n layers of widths 16, 32, 64, shortcuts of option A.
_CIFAR = ResNetSpec(
    "cifar_resnet20",
    (3, 3, 3),
    (16, 32, 64),
    shortcut="A",
    stem="cifar",
    classes=10,
    input_size=32,
)
# He et al. 2016, section 4, Table 4: 9n+2 layers of bottlenecks, projections where shapes differ.
_CIFAR_BOTTLENECK = _CIFAR.replace(branch="bottleneck", shortcut="B")


class _Family:
    """A family of nets whose depth is free: `layers = per_unit * 3n + 2`."""

    def __init__(self, suffix: str, base: ResNetSpec, listed: tuple[int, ...]) -> None:
        self.pattern = re.compile(rf"cifar_resnet(\d+){suffix}")
        self.suffix = suffix
        self.base = base
        self.step = 9 if base.branch == "bottleneck" else 6
        self.listed = listed

    def spec(self, layers: int) -> ResNetSpec:
        name = f"cifar_resnet{layers}{self.suffix}"
        units, rest = divmod(layers - 2, self.step)
        if rest or units < 1:
            near = [self.step * n + 2 for n in (max(1, units), max(1, units) + 1)]
            raise ValueError(
                f"{name!r} has no such depth: this family has {self.step}n+2 layers. "
                f"Nearest: cifar_resnet{near[0]}{self.suffix}, cifar_resnet{near[1]}{self.suffix}"
            )
        return self.base.replace(name=name, depths=(units,) * 3)


_FAMILIES = (
    _Family("", _CIFAR, (20, 32, 44, 56, 110, 1202)),
    _Family("_bottleneck", _CIFAR_BOTTLENECK, (164, 1001)),
    _Family("v2", _CIFAR_BOTTLENECK.replace(order="pre"), (164, 1001)),
    _Family("v2_basic", _CIFAR.replace(order="pre"), (20, 56, 110)),
)

# Banbury et al. 2021 (arXiv:2106.07597), image classification reference: Keras defaults
# throughout (biases, eps, momentum, "same" padding), and projections without a norm.
_RESNET8 = ResNetSpec(
    "mlperf_tiny_resnet8",
    (1, 1, 1),
    (16, 32, 64),
    stem="cifar",
    padding="same",
    conv_bias=True,
    shortcut_norm=False,
    norm_eps=1e-3,
    norm_momentum=0.99,
    classes=10,
    input_size=32,
)

# keras.applications' ResNet50, 101 and 152: as the paper's, with a bias in every convolution.
_KERAS = tuple(
    spec.replace(
        name=f"keras_{spec.name}",
        conv_bias=True,
        norm_eps=1.001e-5,
        norm_momentum=0.99,
    )
    for spec in _POST
    if spec.name in ("resnet50", "resnet101", "resnet152")
)


def plain_twin(spec: ResNetSpec) -> ResNetSpec:
    """Returns the net without its shortcuts: `resnet34` gives `plain34`.

    Source: He et al. 2015, section 3.3, "Plain Network".
    """
    name = spec.name.replace("resnet", "plain", 1)
    return spec.replace(name=name, merge="none", zero_init_residual=False)


def _named() -> dict[str, ResNetSpec]:
    cifar = tuple(family.spec(layers) for family in _FAMILIES for layers in family.listed)
    nets = (*_POST, *_V1_5, *_PRE, *cifar, _RESNET8, *_KERAS)
    return {spec.name: spec for spec in (*nets, *map(plain_twin, nets))}


class Variants(Mapping[str, ResNetSpec]):
    """Read-only map from a net's name to its spec.

    Iterating gives the nets of the papers' tables; a look-up also resolves every other depth of
    the CIFAR families, such as `"cifar_resnet74"` or `"cifar_plain26v2_basic"`.
    """

    def __init__(self) -> None:
        self._specs = _named()

    def __getitem__(self, name: str) -> ResNetSpec:
        """Returns the spec called `name`.

        Raises:
            KeyError: If there is no such net.
        """
        try:
            spec = self.find(name)
        except ValueError as error:  # a depth that the family has not: no key either
            raise KeyError(str(error)) from None
        if spec is None:
            raise KeyError(name)
        return spec

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def find(self, name: str) -> ResNetSpec | None:
        """Returns the spec called `name`, or None.

        Raises:
            ValueError: If `name` asks a family for a depth that it has not; says which it has.
        """
        if not isinstance(name, str):
            return None
        return self._specs.get(name) or self._from_family(name)

    def _from_family(self, name: str) -> ResNetSpec | None:
        residual = name.replace("cifar_plain", "cifar_resnet", 1)
        for family in _FAMILIES:
            match = family.pattern.fullmatch(residual)
            if match:
                spec = family.spec(int(match[1]))
                return spec if residual == name else plain_twin(spec)
        return None


VARIANTS = Variants()


def list_variants(pattern: str = "*") -> list[str]:
    """Returns the names that match a shell-style pattern, such as `"cifar*"`, in table order."""
    return [name for name in VARIANTS if fnmatch.fnmatchcase(name, pattern)]


def get_spec(spec: str | ResNetSpec) -> ResNetSpec:
    """Returns a spec, looked up where a name is given.

    Raises:
        TypeError: If `spec` is neither a name nor a `ResNetSpec`.
        ValueError: If there is no net of that name; lists the nearest names.
    """
    if isinstance(spec, ResNetSpec):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"A net is a name or a ResNetSpec. Received: {spec!r}")
    found = VARIANTS.find(spec)
    if found is None:
        raise ValueError(f"Unknown model {spec!r}. {nearest(spec, VARIANTS)}")
    return found


def nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    """Returns the end of an error message: the known names nearest to `name`, or all of a few."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, n=4, cutoff=0.5)
    if close:
        return f"Nearest: {', '.join(close)}"
    if len(names) <= 12:
        return f"Known: {', '.join(names)}"
    return f"Known: {', '.join(names[:8])} and {len(names) - 8} more"
