"""What a net costs and how it behaves."""

from keras_resnet.analysis.counts import Counts as Counts
from keras_resnet.analysis.counts import count as count
from keras_resnet.analysis.counts import count_spec as count_spec

__all__ = ["Counts", "count", "count_spec"]
