"""Converts the meta-parameters that the authors of Celo publish to a preset.

They are not part of this package: download `theta.state` of amoudgl/celo or
amoudgl/celo-adam from the Hugging Face Hub. Example:

  python -m train.convert_celo --input=theta.state --output_dir=runs/celo
"""

from absl import flags

from keras_l2l import presets
from train import cli


def define_flags():
    flags.DEFINE_string("input", None, "File `theta.state`.", required=True)
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
