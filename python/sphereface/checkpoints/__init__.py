"""Weight files of the torch world as {key: tensor}: state dicts, safetensors, others' ports."""

from sphereface.checkpoints.clcarwin import from_clcarwin, is_clcarwin, to_clcarwin
from sphereface.checkpoints.opensphere import (
    from_opensphere,
    is_opensphere,
    opensphere_prototxt,
)
from sphereface.checkpoints.opensphere_heads import read_head
from sphereface.checkpoints.read import checkpoint_prototxt, read_checkpoint
from sphereface.checkpoints.safetensors import read_safetensors, write_safetensors
from sphereface.checkpoints.state_dict import read_state_dict, write_state_dict

__all__ = [
    "checkpoint_prototxt",
    "from_clcarwin",
    "from_opensphere",
    "is_clcarwin",
    "is_opensphere",
    "opensphere_prototxt",
    "read_checkpoint",
    "read_head",
    "read_safetensors",
    "read_state_dict",
    "to_clcarwin",
    "write_safetensors",
    "write_state_dict",
]
