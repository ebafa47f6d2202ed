"""The microscope in the browser: served live, or handed on as one HTML file.

session · slides · captured · opening   what is known: a network, pictures, what was seen of them
network · pictures · reasons ·
  evidence · numbers                    what is answered; no HTTP (answers: what an answer is)
jobs · works · counting                 long work, and its kinds
wire                                    how numbers travel
page · collecting · exporting · live    the app's files; the app with its data as one of them
app · routes · asked · replies ·
  safety · server · running             addresses, what is let in, the loopback
static/                                 the app itself: plain ES modules
"""

from convscope._app.exporting import export, show
from convscope._app.live import Live
from convscope._app.microscope import Microscope
from convscope._app.running import Running
from convscope._app.server import serve

__all__ = ["Live", "Microscope", "Running", "export", "serve", "show"]
