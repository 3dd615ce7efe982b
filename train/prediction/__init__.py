"""Classification of image files: what is found, read, predicted and written."""

from .found import find_images as find_images
from .heatmaps import Heatmaps as Heatmaps
from .names import output_names as output_names
from .predict import Prediction as Prediction
from .predict import predictions as predictions
from .table import PredictionTable as PredictionTable
