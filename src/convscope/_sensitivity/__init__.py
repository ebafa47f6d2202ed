"""Sensitivity: how much controlled changes of an image change the responses of channels.

- ``sensitivity``: the public function; ``sensitivity_result``, ``layer_sensitivity``: what it
  returns, and its figures
- ``perturbations``: changes of images, and redrawn factors of procedural shapes
- ``responses``: one number per image and channel, and how far perturbations move it
- ``tuning``: responses to gratings and plain colors
"""

from convscope._sensitivity.layer_sensitivity import LayerSensitivity
from convscope._sensitivity.sensitivity import sensitivity

__all__ = ["LayerSensitivity", "sensitivity"]
