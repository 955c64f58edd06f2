"""Update rules. A new rule is one module here and one line below."""

from keras_l2l.rules.base import CoordinatewiseRule
from keras_l2l.rules.base import StepInputs
from keras_l2l.rules.base import UpdateRule
from keras_l2l.rules.blockwise import BlockwiseRule
from keras_l2l.rules.celo import Celo
from keras_l2l.rules.celo import CeloAdam
from keras_l2l.rules.celo2 import Celo2
from keras_l2l.rules.coordinatewise_lstm import CoordinatewiseLSTM
from keras_l2l.rules.global_averaging_lstm import GlobalAveragingLSTM
from keras_l2l.rules.guarded import Guarded
from keras_l2l.rules.hand_designed import SGD
from keras_l2l.rules.hand_designed import Adam
from keras_l2l.rules.hand_designed import Momentum
from keras_l2l.rules.kernel_lstm import KernelLSTM
from keras_l2l.rules.mlp_rule import MLPRule
from keras_l2l.rules.momentum_mixture import MomentumMixture
from keras_l2l.rules.ntm_bfgs import NTMBFGS
from keras_l2l.rules.partition import Partition
from keras_l2l.rules.rnnprop import RNNprop
from keras_l2l.rules.serialization import deserialize
from keras_l2l.rules.serialization import serialize
from keras_l2l.rules.tensorwise import TensorwiseRule
from keras_l2l.rules.vector_rule import VectorRule
from keras_l2l.rules.wrapper import WrapperRule
from keras_l2l.utils.nests import count_params

__all__ = [
    "NTMBFGS",
    "SGD",
    "Adam",
    "BlockwiseRule",
    "Celo",
    "Celo2",
    "CeloAdam",
    "CoordinatewiseLSTM",
    "CoordinatewiseRule",
    "GlobalAveragingLSTM",
    "Guarded",
    "KernelLSTM",
    "MLPRule",
    "Momentum",
    "MomentumMixture",
    "Partition",
    "RNNprop",
    "StepInputs",
    "TensorwiseRule",
    "UpdateRule",
    "VectorRule",
    "WrapperRule",
    "count_params",
    "deserialize",
    "serialize",
]
