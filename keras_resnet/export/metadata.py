"""What a file says of itself: TFLite metadata, read by MediaPipe and Android, and ONNX properties.

TFLite metadata is a flatbuffer of its own (schema: `metadata_schema.fbs` of tflite-support,
identifier `M001`) in a buffer of the model that is named `TFLITE_METADATA`. The labels are a text
file in a ZIP archive that follows the model's flatbuffer.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.texts import label_text, read_label_member

_NAME, _IDENTIFIER = b"TFLITE_METADATA", b"M001"
_LABELS = "labels.txt"
# Values of enumerations and unions of the schema.
_IMAGE_PROPERTIES, _NORMALIZATION, _AXIS_LABELS = 2, 1, 2
_RGB, _GRAYSCALE = 1, 2
# One fixed time for the archive, so that equal exports are equal files.
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """What a LiteRT or ONNX file says of itself.

    Attributes:
        name: Name of the net.
        description: A sentence on the file.
        version: Version of the weights, such as the start of their hash.
        author: Author, or "".
        license: Licence, or "".
        labels: One name per class, or None.
        weights_sha256: Hash of the weights, or "".

    Example:
        >>> description = keras_resnet.export.Description(name="digits", labels=["zero", "one"])
        >>> keras_resnet.export.export_tflite(..., description=description)
    """

    name: str
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    labels: Sequence[str] | None = None
    weights_sha256: str = ""

    @property
    def text(self) -> str:
        """The description, with the hash of the weights, which TFLite metadata has no field for."""
        said = f"Weights SHA-256: {self.weights_sha256}" if self.weights_sha256 else ""
        return ". ".join(part for part in (self.description, said) if part)

    def properties(self) -> dict[str, str]:
        """Returns the fields that are set as texts; the labels as one line each."""
        values = dataclasses.asdict(self)
        labels = values.pop("labels")
        if labels is not None:
            values["labels"] = label_text(labels).removesuffix("\n")
        return {name: value for name, value in values.items() if value}


def with_metadata(
    content: bytes,
    description: Description,
    *,
    channels: int,
    preprocess: PreprocessSpec | None,
) -> bytes:
    """Returns a LiteRT file with metadata.

    Args:
        content: The file.
        description: What it says of itself.
        channels: Number of channels of the image, 1 or 3.
        preprocess: How a client normalises pixels; None where the file does.
    """
    mean, std = ((0.0,), (1.0,)) if preprocess is None else (preprocess.mean, preprocess.std)
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    buffer = schema.BufferT()
    buffer.data = _metadata(description, channels, mean, std)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + len(buffer.data) + 1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    packed = bytes(builder.Output())
    return packed if description.labels is None else _with_file(packed, description.labels)


def read_labels(content: bytes) -> list[str] | None:
    """Returns the labels that a LiteRT file holds; None without labels."""
    return read_label_member(content, _LABELS)


def _with_file(content: bytes, labels: Sequence[str]) -> bytes:
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_LABELS, _TIME), label_text(labels).encode("utf-8"))
    return stream.getvalue()


def _metadata(
    description: Description, channels: int, mean: Sequence[float], std: Sequence[float]
) -> bytes:
    """Returns the metadata flatbuffer; slots are numbered as fields are in the schema."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    text = builder.CreateString
    table = _Tables(builder)
    properties = table.make(2, [(0, "int8", _RGB if channels == 3 else _GRAYSCALE)])
    content = table.make(3, [(0, "uint8", _IMAGE_PROPERTIES), (1, "offset", properties)])
    options = table.make(2, [(0, "offset", table.floats(mean)), (1, "offset", table.floats(std))])
    unit = table.make(2, [(0, "uint8", _NORMALIZATION), (1, "offset", options)])
    extremes = [tuple((edge - m) / s for m, s in zip(mean, std, strict=True)) for edge in (0, 255)]
    stats = table.make(
        2, [(0, "offset", table.floats(extremes[1])), (1, "offset", table.floats(extremes[0]))]
    )
    image = table.make(
        7,
        [
            (0, "offset", text("image")),
            (1, "offset", text("Image to classify")),
            (3, "offset", content),
            (4, "offset", table.vector([unit])),
            (5, "offset", stats),
        ],
    )
    fields = [(0, "offset", text("probability")), (1, "offset", text("Score of each class"))]
    if description.labels is not None:
        labels = table.make(
            5,
            [
                (0, "offset", text(_LABELS)),
                (1, "offset", text("Names of the classes, in order")),
                (2, "int8", _AXIS_LABELS),
            ],
        )
        fields.append((6, "offset", table.vector([labels])))
    scores = table.make(7, fields)
    graph = table.make(
        10, [(2, "offset", table.vector([image])), (3, "offset", table.vector([scores]))]
    )
    slots = {
        0: description.name,
        1: description.text,
        2: description.version,
        4: description.author,
        5: description.license,
        7: "1.0.0",  # oldest parser
    }
    fields = [(slot, "offset", text(value)) for slot, value in slots.items() if value]
    root = table.make(8, [*fields, (3, "offset", table.vector([graph]))])
    builder.Finish(root, _IDENTIFIER)
    return bytes(builder.Output())


class _Tables:
    """Tables and vectors of a flatbuffer whose code was not generated."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        self._add: dict[str, Callable[[int, int], None]] = {
            "int8": lambda slot, value: builder.PrependInt8Slot(slot, value, 0),
            "uint8": lambda slot, value: builder.PrependUint8Slot(slot, value, 0),
            "offset": lambda slot, value: builder.PrependUOffsetTRelativeSlot(slot, value, 0),
        }

    def make(self, slots: int, fields: Sequence[tuple[int, str, int]]) -> int:
        """Writes a table of so many slots, with fields of (slot, kind, value)."""
        self._builder.StartObject(slots)
        for slot, kind, value in fields:
            self._add[kind](slot, value)
        return self._builder.EndObject()

    def vector(self, offsets: Sequence[int]) -> int:
        """Writes a vector of tables."""
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()

    def floats(self, values: Sequence[float]) -> int:
        """Writes a vector of float32."""
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependFloat32(value)
        return self._builder.EndVector()
