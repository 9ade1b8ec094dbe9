"""Training: the loop, the network, the schedule, checkpoints and metrics, as a recipe says."""

from __future__ import annotations

from fastload.train.build import train as train
from fastload.train.metrics import Metrics as Metrics
from fastload.train.model import create_model as create_model
from fastload.train.model import model_names as model_names
from fastload.train.progress import BatchInfo as BatchInfo
from fastload.train.progress import EpochInfo as EpochInfo
from fastload.train.progress import Progress as Progress
from fastload.train.progress import RunInfo as RunInfo
from fastload.train.report import TrainReport as TrainReport

__all__ = [
    "BatchInfo",
    "EpochInfo",
    "Metrics",
    "Progress",
    "RunInfo",
    "TrainReport",
    "create_model",
    "model_names",
    "train",
]
