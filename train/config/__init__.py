"""The configuration of a run: its classes, its JSON files, and what a resumed run may change."""

from .fields import Field as Field
from .fields import all_fields as all_fields
from .fields import describe as describe
from .files import as_begun as as_begun
from .files import differences as differences
from .files import from_dict as from_dict
from .files import load_config as load_config
from .files import with_changes as with_changes
from .quantize import QuantizeConfig as QuantizeConfig
from .run import AugmentConfig as AugmentConfig
from .run import CheckpointConfig as CheckpointConfig
from .run import DataConfig as DataConfig
from .run import LossConfig as LossConfig
from .run import ModelConfig as ModelConfig
from .run import OptimizerConfig as OptimizerConfig
from .run import RunConfig as RunConfig
from .run import RuntimeConfig as RuntimeConfig
from .run import ScheduleConfig as ScheduleConfig
from .unused import unused_settings as unused_settings
