"""Weight files of the torch world as {key: tensor}: state dicts, safetensors, clcarwin's port."""

from sphereface.checkpoints.clcarwin import from_clcarwin, is_clcarwin, to_clcarwin
from sphereface.checkpoints.read import read_checkpoint
from sphereface.checkpoints.safetensors import read_safetensors, write_safetensors
from sphereface.checkpoints.state_dict import read_state_dict, write_state_dict

__all__ = [
    "from_clcarwin",
    "is_clcarwin",
    "read_checkpoint",
    "read_safetensors",
    "read_state_dict",
    "to_clcarwin",
    "write_safetensors",
    "write_state_dict",
]
