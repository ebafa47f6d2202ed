"""The public face of convscope: the one table of public names.

Lazy loading, ``__all__``, type checkers and the tests all read this file; what is not listed here
is not public.
"""

from ._ablation import ablate as ablate
from ._app import export as export
from ._app import serve as serve
from ._app import show as show
from ._atlas import Atlas as Atlas
from ._atlas import open_atlas as open_atlas
from ._attribution.attribute import attribute as attribute
from ._comparison import checkpoints as checkpoints
from ._comparison import compare as compare
from ._data import open_dataset as open_dataset
from ._errors import ConvscopeError as ConvscopeError
from ._feature_maps import feature_maps as feature_maps
from ._filters import filters as filters
from ._images import Preprocess as Preprocess
from ._models import Model as Model
from ._models import load as load
from ._optvis import Fourier as Fourier
from ._optvis import MaCo as MaCo
from ._optvis import Pixels as Pixels
from ._optvis import Transforms as Transforms
from ._optvis import activation_grid as activation_grid
from ._optvis import between as between
from ._optvis import caricature as caricature
from ._optvis import channel as channel
from ._optvis import direction as direction
from ._optvis import diversity as diversity
from ._optvis import dream as dream
from ._optvis import layer as layer
from ._optvis import logit as logit
from ._optvis import maximize as maximize
from ._optvis import neuron as neuron
from ._optvis import style as style
from ._reports import report as report
from ._reports.diagnosis import diagnose as diagnose
from ._scan import scan as scan
from ._sensitivity import sensitivity as sensitivity
from ._train import Recipe as Recipe
from ._train import train as train
from ._watch import Frames as Frames
from ._watch import TensorBoard as TensorBoard
from ._watch import watch as watch

__version__: str
