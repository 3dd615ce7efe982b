"""Evaluation of a model on every example of a split, on any number of replicas."""

from .classify import Evaluation as Evaluation
from .classify import evaluate as evaluate
from .ensemble import measure as measure
from .intervals import wilson as wilson
from .members import Member as Member
from .members import fully_convolutional as fully_convolutional
from .members import open_member as open_member
from .tally import Measurement as Measurement
from .views import View as View
from .views import make_view as make_view
