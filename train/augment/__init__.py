"""Augmentation: functions of an image and of random numbers that they are given."""

from .batch import inside_images as inside_images
from .batch import pad_crop_flip as pad_crop_flip
from .checks import check_augmentation as check_augmentation
from .draws import DRAWS as DRAWS
from .draws import NOISE as NOISE
from .draws import example_draws as example_draws
from .draws import step_key as step_key
from .example import crop_box as crop_box
from .example import mirror as mirror
from .example import random_crop as random_crop
from .example import resize_crop as resize_crop
from .image import changes_images as changes_images
from .image import erase_from as erase_from
from .image import image_plan as image_plan
from .image import make_change as make_change
from .image import place as place
from .mixing import is_mixed as is_mixed
from .mixing import kept_shares as kept_shares
from .mixing import mix as mix
from .mixing import mix_by as mix_by
from .mixing import soft_labels as soft_labels
from .noise import color_shifts as color_shifts
from .sizes import is_progressive as is_progressive
from .sizes import training_size as training_size
