"""The tasks of `train.suite`: a file for each, and a line in this table."""

from train.suite_tasks import autoencoder
from train.suite_tasks import conv_net
from train.suite_tasks import few_data
from train.suite_tasks import fine_tuning
from train.suite_tasks import gan
from train.suite_tasks import gpt
from train.suite_tasks import gru
from train.suite_tasks import pinn
from train.suite_tasks import recommender
from train.suite_tasks import regression
from train.suite_tasks import resnet
from train.suite_tasks import tabular
from train.suite_tasks import text_transformer
from train.suite_tasks import vae
from train.suite_tasks import vit
from train.suite_tasks import wide_mlp

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
