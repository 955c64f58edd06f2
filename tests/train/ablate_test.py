from train import ablate


def test_a_validation_that_diverges_is_not_the_best():
    # As from a history.json: what is not finite is None.
    validation = [
        {"meta_step": 0, "mean_loss": 3.0, "final_loss": 2.0},
        {"meta_step": 50, "mean_loss": None, "final_loss": None},
        {"meta_step": 100, "mean_loss": 2.0, "final_loss": 1.0},
    ]
    history = {"validation": validation, "seconds": 120.0}
    row = ablate._row("as it is", (), history)
    assert (row["best_at"], row["final_loss"]) == (100, 1.0)
    assert row["minutes"] == 2.0
