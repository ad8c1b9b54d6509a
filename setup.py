from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
version = next(line for line in (ROOT / "s3prl_dd/__init__.py").read_text().splitlines() if line.startswith("__version__"))

extras = {
    "check": ["ruff==0.17.6", "mypy==2.4.1", "types-PyYAML", "types-tqdm", "types-tabulate", "scipy-stubs", "pandas-stubs"],  # run.sh check
    "demo": ["espeakng-loader==0.2.4"],  # the demo corpus: eSpeak NG without a system package
    "moonshine": ["moonshine-voice==0.0.49", "onnxruntime>=1.20", "flatbuffers>=24"],  # pretrained states without a hub
    "test": ["pytest>=8", "pytest-xdist>=3.6", "librosa>=0.10"],  # librosa: S3PRL's own IEMOCAP script, which ours is compared with, imports it
}

setup(
    name="s3prl_dd",
    version=version.split('"')[1],
    description="Dataset distillation for speech emotion recognition, a plugin of S3PRL / SUPERB",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["s3prl_dd", "s3prl_dd.*"]),
    package_data={"s3prl_dd": ["py.typed", "downstream_configs/*.yaml", "plugin/downstream/*/*.yaml"]},
    install_requires=[
        "s3prl==0.4.18", "torch>=2.4", "torchaudio>=2.4", "numpy>=1.26", "pyyaml>=6", "editdistance>=0.8", "tensorboard>=2.16",
        "tensorboardX>=2.6",  # imported by S3PRL's runner
        "huggingface_hub",  # imported by S3PRL's runner
        "safetensors>=0.5", "scikit-learn>=1.4", "scipy>=1.11", "matplotlib>=3.8", "soundfile>=0.12", "tqdm>=4.66",
        "pydantic>=2.9", "omegaconf>=2.3", "tyro>=0.9.20",  # configuration: types with their ranges, YAML, flags with help
        "statsmodels>=0.14", "tabulate>=0.9", "torchinfo>=1.8",  # McNemar's test, tables, layers of a network
    ],
    extras_require={**extras, "all": sorted({item for items in extras.values() for item in items})},
    entry_points={"console_scripts": ["s3prl-dd=s3prl_dd.cli:main"]},
)
