"""Image data sets as `tf.data`."""

from .batches import Share as Share
from .batches import TrainingPlan as TrainingPlan
from .evaluation_pipeline import evaluation_batches as evaluation_batches
from .hand_over import make_finish as make_finish
from .image_data import ImageData as ImageData
from .in_memory import at_size as at_size
from .in_memory import measure_channels as measure_channels
from .in_memory import raw_images as raw_images
from .listing import Listing as Listing
from .listing import read_listing as read_listing
from .load import check_dataset as check_dataset
from .load import load_data as load_data
from .load import resolve_data as resolve_data
from .pipeline import pixel_batches as pixel_batches
from .pipeline import training_batches as training_batches
from .preview import augmented_examples as augmented_examples
from .preview import grid as grid
from .readable import naming_files as naming_files
from .sources import ArraySource as ArraySource
from .sources import Source as Source
from .streams import evaluation_notes as evaluation_notes
from .streams import reading_notes as reading_notes
