"""Analyses of a network: its costs, its gradients, and how its units change their input."""

from keras_resnet.analysis.callback import GradientFlow as GradientFlow
from keras_resnet.analysis.callback import read_gradient_flow as read_gradient_flow
from keras_resnet.analysis.chain import Chain as Chain
from keras_resnet.analysis.counts import Counts as Counts
from keras_resnet.analysis.counts import count as count
from keras_resnet.analysis.counts import count_spec as count_spec
from keras_resnet.analysis.counts import stage_table as stage_table
from keras_resnet.analysis.gradients import Gradients as Gradients
from keras_resnet.analysis.gradients import UnitGradient as UnitGradient
from keras_resnet.analysis.gradients import gradient_flow as gradient_flow
from keras_resnet.analysis.identity import IdentityReport as IdentityReport
from keras_resnet.analysis.identity import UnitDistance as UnitDistance
from keras_resnet.analysis.identity import accepted_specs as accepted_specs
from keras_resnet.analysis.identity import claims_identity as claims_identity
from keras_resnet.analysis.identity import identity_report as identity_report
from keras_resnet.analysis.identity import unit_distances as unit_distances
from keras_resnet.analysis.jacobian import Spectrum as Spectrum
from keras_resnet.analysis.jacobian import jacobian_singular_values as jacobian_singular_values
from keras_resnet.analysis.lesion import Lesion as Lesion
from keras_resnet.analysis.lesion import Lesions as Lesions
from keras_resnet.analysis.outputs import unit_outputs as unit_outputs
from keras_resnet.analysis.responses import LayerResponse as LayerResponse
from keras_resnet.analysis.responses import layer_responses as layer_responses

__all__ = [
    "Chain",
    "Counts",
    "GradientFlow",
    "Gradients",
    "IdentityReport",
    "LayerResponse",
    "Lesion",
    "Lesions",
    "Spectrum",
    "UnitDistance",
    "UnitGradient",
    "accepted_specs",
    "claims_identity",
    "count",
    "count_spec",
    "gradient_flow",
    "identity_report",
    "jacobian_singular_values",
    "layer_responses",
    "read_gradient_flow",
    "stage_table",
    "unit_distances",
    "unit_outputs",
]
