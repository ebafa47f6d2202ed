"""The app in the browser: served live, or exported as one HTML file.

session        one network, one atlas, the input images, what was computed of them
inputs         images as given and as a network takes them; demo images
model_api, input_api, analysis_api, atlas_api
               answers of the API: payloads of a session, without HTTP
wire           payloads: JSON, images, files, binary blocks of arrays
jobs, tasks    long tasks in the background; their kinds
routes, asgi   addresses → payloads; the ASGI app, uploads, events, errors
security       which requests are served, and what browsers may do
page           the files of the app; one page of them and its data
server         ``serve``: the app on 127.0.0.1
export         ``export``, ``show``: a page without a server
static/        the app itself: plain ES modules
"""

from convscope._app.export import LivePage, export, show
from convscope._app.page import ExportedPage
from convscope._app.server import AppServer, serve

__all__ = ["AppServer", "ExportedPage", "LivePage", "export", "serve", "show"]
