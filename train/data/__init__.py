"""Image data sets as `tf.data`."""

from .load import at_size as at_size
from .load import load_data as load_data
from .load import measure_channels as measure_channels
from .load import raw_images as raw_images
from .load import resolve_data as resolve_data
from .pipeline import Share as Share
from .pipeline import TrainingPlan as TrainingPlan
from .pipeline import evaluation_batches as evaluation_batches
from .pipeline import training_batches as training_batches
from .sources import ArraySource as ArraySource
from .sources import ImageData as ImageData
from .sources import Source as Source
