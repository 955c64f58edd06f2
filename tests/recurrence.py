"""A rule and a task whose meta-gradient has a closed form."""

import tensorflow as tf

from keras_l2l import rules
from keras_l2l import tasks


class Square(tasks.Task):
    """f(s) = s^2 from s = 1."""

    name = "square"

    def init_params(self, seed):
        return [tf.ones([1], tf.float64)]

    def batches(self, split, seed):
        return lambda step: ()

    def loss(self, params, batch):
        return tf.reduce_sum(tf.square(params[0]))


class Recurrence(rules.UpdateRule):
    """s <- 0.9 s + meta_param, as an update."""

    def init_meta_params(self, seed):
        return {"shift": tf.constant(0.3, tf.float64)}

    def init_state(self, shapes):
        return {}

    def step(self, meta_params, inputs, state):
        (s,) = inputs.params
        return [-0.1 * s + meta_params["shift"]], state
