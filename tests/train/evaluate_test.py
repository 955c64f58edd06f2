import numpy as np
import pytest

from keras_l2l import evaluation
from keras_l2l.evaluation import summary
from keras_l2l.utils import files
from train import cli
from train import evaluate
from train import experiments


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    output = tmp_path / "evaluation.json"
    result = {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "tuned_for": [],
        **summary.summarize(np.array([[2.0, 1.0], [3.0, 2.0]])),
    }

    def of_hours(*arguments, **others):
        output.write_text("of another process")
        return {"results": [result]}

    monkeypatch.setattr(evaluation, "evaluate", of_hours)
    monkeypatch.setattr(cli, "make_task", lambda *_: None)
    test = experiments.Test("quadratics", 2, 2, 2)
    with pytest.warns(UserWarning, match="evaluation_2.json"):
        evaluate.compare([], test, output)
    assert output.read_text() == "of another process"
    written = files.read_json(tmp_path / "evaluation_2.json")
    assert written["results"][0]["final_loss"] == 1.5
    with pytest.raises(FileExistsError, match="must be new"):
        evaluate.compare([], test, output)
