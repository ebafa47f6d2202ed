"""The microscope in the browser: served live, or handed on as one HTML file.

session · answers · evidence · jobs   what is known, and what is answered; no HTTP
wire                                  how numbers travel
page · exporting                      the app's files; the app with its data as one of them
app · safety · server                 routes, what is let in, the loopback
static/                               the app itself: plain ES modules
"""

from convscope.web.exporting import Microscope, export, show
from convscope.web.server import serve

__all__ = ["Microscope", "export", "serve", "show"]
