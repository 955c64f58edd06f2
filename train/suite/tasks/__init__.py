"""The tasks of `train.suite`: a file for each, and a line in this table."""

from train.suite.tasks import autoencoder
from train.suite.tasks import conv_net
from train.suite.tasks import few_data
from train.suite.tasks import fine_tuning
from train.suite.tasks import gan
from train.suite.tasks import gpt
from train.suite.tasks import gru
from train.suite.tasks import pinn
from train.suite.tasks import recommender
from train.suite.tasks import regression
from train.suite.tasks import resnet
from train.suite.tasks import tabular
from train.suite.tasks import text_transformer
from train.suite.tasks import vae
from train.suite.tasks import vit
from train.suite.tasks import wide_mlp

TASKS = {
    module.TASK.name: module.TASK
    for module in (
        conv_net,
        resnet,
        vit,
        text_transformer,
        gpt,
        gru,
        recommender,
        tabular,
        regression,
        autoencoder,
        vae,
        gan,
        pinn,
        fine_tuning,
        few_data,
        wide_mlp,
    )
}
