"""Converts meta-parameters of the authors of Celo or Celo2 to a preset.

They are not part of this package: download `theta.state` of amoudgl/celo or
amoudgl/celo-adam from the Hugging Face Hub, or write the arrays of Celo2's
network, by their names in its authors' PyTorch code, to an `.npz`. Examples:

  python -m train.convert_celo --input=theta.state --output_dir=runs/celo
  python -m train.convert_celo --input=weights.npz --output_dir=runs/celo2
"""

from absl import flags

from keras_l2l import presets
from train import cli


def define_flags():
    flags.DEFINE_string(
        "input", None, "File `theta.state` or `.npz`.", required=True
    )
    flags.DEFINE_string(
        "output_dir", None, "New or empty folder.", required=True
    )


def main():
    values = flags.FLAGS
    presets.convert_celo(values.input, values.output_dir)
    print(f"Preset: {values.output_dir}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
