from keras_l2l.tasks import examples
from keras_l2l.tasks import varied_networks
from keras_l2l.tasks.data import text


def test_each_split_of_the_text_has_enough_examples():
    for split, data in text.load_characters().items():
        assert examples.number(data) >= 2 * varied_networks._FEWEST, split
