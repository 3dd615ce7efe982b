"""What a float16 file must equal: a float32 file with constants rounded to float16."""

from __future__ import annotations

import numpy as np


def rounded_constants(content: bytes) -> bytes:
    """Returns a float32 LiteRT file whose constants are rounded to float16 and stay float32.

    The converter rounds constants after it has combined them (norms into kernels, scales into
    scales), so rounding a model's weights would not give the same numbers.

    Args:
        content: The file.
    """
    from ai_edge_litert import schema_py_generated as schema

    rounded = bytearray(content)
    model = schema.Model.GetRootAsModel(rounded, 0)
    done: set[int] = set()
    for graph_index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(graph_index)
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            number = tensor.Buffer()
            buffer = model.Buffers(number)
            if tensor.Type() != schema.TensorType.FLOAT32 or number in done:
                continue
            done.add(number)
            if buffer.DataLength():
                values = buffer.DataAsNumpy().view("<f4")  # a view of `rounded`
                with np.errstate(over="ignore"):
                    values[:] = values.astype("float16")
    return bytes(rounded)
