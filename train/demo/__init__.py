"""A page that classifies images in the browser with a LiteRT file, and its class activation map."""

from .classifier import DemoClassifier as DemoClassifier
from .classifier import open_classifier as open_classifier
from .site import Example as Example
from .site import write_site as write_site

__all__ = ["DemoClassifier", "Example", "open_classifier", "write_site"]
