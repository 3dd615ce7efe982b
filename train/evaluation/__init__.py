"""How good a model is on a split, exactly, on any number of replicas."""

from .classify import Evaluation as Evaluation
from .classify import evaluate as evaluate
from .intervals import wilson as wilson
