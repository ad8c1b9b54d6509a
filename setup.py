"""The package: what it needs, what is in it, its command. The tools' settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
lines = (ROOT / "s3prl_dd/__init__.py").read_text().splitlines()
version = next(line for line in lines if line.startswith("__version__")).split('"')[1]

extras = {
    "check": [  # run.sh check, pre-commit
        "ruff==0.17.6", "mypy==2.4.1", "pre-commit>=4",
        "types-PyYAML", "types-tqdm", "types-tabulate", "scipy-stubs", "pandas-stubs",
    ],
    "docs": ["mkdocs>=1.6"],  # run.sh docs
    "demo": ["espeakng-loader==0.2.4"],  # the demo corpus: eSpeak NG without a system package
    "moonshine": ["moonshine-voice==0.0.49", "onnxruntime>=1.20", "flatbuffers>=24"],  # pretrained states without a hub
    "s3prl": ["s3prl==0.4.18"],  # run.sh has it; a requirement would install it over espnet-s3prl, of the same name
    "slurm": ["submitit>=1.5"],  # reproduce --cluster
    "test": [
        "submitit>=1.5",
        "pytest>=8", "pytest-xdist>=3.6",
        "librosa>=0.10",  # imported by S3PRL's own IEMOCAP script, which ours is compared with
    ],
}

setup(
    name="s3prl_dd",
    version=version,
    description="Dataset distillation for speech emotion recognition, a plugin of S3PRL / SUPERB",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["s3prl_dd", "s3prl_dd.*"]),
    package_data={"s3prl_dd": ["py.typed", "downstream_configs/*.yaml", "plugin/downstream/*/*.yaml",
                               "publish/templates/*"]},
    install_requires=[
        "torch>=2.6", "torchaudio>=2.6",  # older ones run code that stands in a checkpoint of S3PRL's
        "numpy>=1.26", "pyyaml>=6", "editdistance>=0.8",
        "tensorboard>=2.16",
        "tensorboardX>=2.6",  # imported by S3PRL's runner
        "huggingface_hub",  # imported by S3PRL's runner
        "safetensors>=0.5", "scikit-learn>=1.4", "scipy>=1.11", "matplotlib>=3.8", "soundfile>=0.12", "tqdm>=4.66",
        "threadpoolctl>=3.1",
        "pydantic>=2.9", "omegaconf>=2.3", "tyro>=0.9.20",  # configuration: types with ranges, YAML, flags with help
        "statsmodels>=0.14", "tabulate>=0.9", "torchinfo>=1.8",  # McNemar's test, tables, layers of a network
        "jinja2>=3.1",  # the report's page, the card; torch brings it along
    ],
    extras_require={**extras, "all": sorted({item for name in extras.keys() - {"s3prl"} for item in extras[name]})},
    entry_points={"console_scripts": ["s3prl-dd=s3prl_dd.cli:main"]},
)
