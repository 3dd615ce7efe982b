"""Classification of images: what is found, read, predicted and written."""

from .data_sets import DataSet as DataSet
from .data_sets import names_data_set as names_data_set
from .data_sets import open_data_set as open_data_set
from .found import FoundImages as FoundImages
from .found import Picture as Picture
from .found import find_images as find_images
from .heatmaps import Heatmaps as Heatmaps
from .names import output_names as output_names
from .predict import Prediction as Prediction
from .predict import predictions as predictions
from .table import PredictionTable as PredictionTable
