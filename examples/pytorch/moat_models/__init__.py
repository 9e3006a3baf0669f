"""Every network that a checkpoint of moat can hold, in plain PyTorch."""

from .classifier import Classifier, Dual, load, make, names_in_file
from .kinks import smooth_images
from .safetensors_file import read_safetensors, write_safetensors

__all__ = ["Classifier", "Dual", "load", "make", "names_in_file", "read_safetensors", "smooth_images",
           "write_safetensors"]
